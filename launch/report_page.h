/* The page's parts as the build embeds them: launch/report/. */
#ifndef LAUNCH_REPORT_PAGE_H
#define LAUNCH_REPORT_PAGE_H

#include <stddef.h>

#define REPORT_PARTS(X) X(html) X(css) X(charts_js) X(page_js) X(gallery_js)
#define REPORT_PART(name)                       \
    extern const unsigned char report_##name[]; \
    extern const size_t report_##name##_len;
REPORT_PARTS(REPORT_PART)
#undef REPORT_PART

#endif
