# why: time inside C that still looks for signals
# expect: TIMEOUT_SOFT|TIMEOUT_HARD
import re

re.match(r'(a+)+$', 'a' * 40 + 'b')
