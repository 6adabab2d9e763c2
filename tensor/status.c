#include "tensor/status.h"

#include <stdarg.h>
#include <stdio.h>

const char *tl_status_text(tl_status status)
{
    switch (status) {
#define X(code, text)                                                                                  \
    case code:                                                                                         \
        return text;
        TL_STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

tl_status tl_fail(tl_error *error, tl_status status, const char *format, ...)
{
    if (error && error->status == TL_OK) {
        error->status = status;
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
    }
    return status;
}
