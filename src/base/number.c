#include "base/number.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

/* The thread's locale becomes C's until the matching end. Where there is no memory for it, the host's stays. */
struct scope {
    locale_t c, before;
};

static struct scope begin(void)
{
    struct scope s = {newlocale(LC_NUMERIC_MASK, "C", (locale_t)0), (locale_t)0};
    if (s.c)
        s.before = uselocale(s.c);
    return s;
}

static void end_scope(struct scope s)
{
    if (!s.c)
        return;
    uselocale(s.before);
    freelocale(s.c);
}

double vkm_number_read(const char *text, char **end)
{
    const struct scope s = begin();
    const double value = strtod(text, end);
    end_scope(s);
    return value;
}

void vkm_number_write(char *text, size_t size, float value)
{
    const struct scope s = begin();
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, size, "%.*g", digits, (double)value);
        if ((float)strtod(text, NULL) == value)
            break;
    }
    end_scope(s);
}
