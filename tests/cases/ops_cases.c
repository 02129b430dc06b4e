#include "ops_cases.h"

const struct ops_case *const ops_case_tables[] = {
    ops_cases_dense, ops_cases_gate,  ops_cases_moe,     ops_cases_attention,
    ops_cases_loss,  ops_cases_optim, ops_cases_metrics, ops_cases_net,
    ops_cases_narrow, ops_cases_stack,
    NULL,
};
