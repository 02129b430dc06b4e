/* Numbers as text with a decimal point, whatever locale the host has set. */
#ifndef VKM_BASE_NUMBER_H
#define VKM_BASE_NUMBER_H

#include <stddef.h>

/* As strtod. */
double vkm_number_read(const char *text, char **end);

/* The fewest digits that read back as the same finite float, as printf's %g has them. text holds 16 bytes or more. */
void vkm_number_write(char *text, size_t size, float value);

#endif
