# why: C stack directly
# expect: SIGNAL 11
import faulthandler

faulthandler._stack_overflow()
