#ifndef VKMOE_TOOLS_COMMANDS_H
#define VKMOE_TOOLS_COMMANDS_H

#include "options.h"

extern const struct command command_devices, command_train, command_compare, command_report, command_eval,
    command_generate, command_inspect, command_selftest, command_bench, command_tune;

#endif
