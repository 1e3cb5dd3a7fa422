/* Built without Python's development files: codedance-zygote starts the interpreter named by sandbox.python, and has
 * none of its own. */
#include <stdlib.h>

#include "sandbox/zygote/zygote.h"

status embed_python(void)
{
    return FAIL(ST_EUNAVAIL, "sandbox.python: this codedance was built without a Python of its own: name an "
                             "interpreter here, or install libpython3-dev and build again");
}

int zygote_serve(zygote_state *z, int sock, status st)
{
    (void)z;
    (void)sock;
    (void)st;
    abort(); /* only called once embed_python has succeeded */
}
