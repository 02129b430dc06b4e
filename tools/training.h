/* What every subcommand that trains shares: its flags, how they start from a preset, and whether the model fits. */
#ifndef VKMOE_TOOLS_TRAINING_H
#define VKMOE_TOOLS_TRAINING_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <vkmoe/vkmoe.h>

#include "options.h"

/* Values of the flags; a member `training` of a subcommand's values. */
struct training_options {
    struct text_list data, valid;
    const char *preset;
    unsigned lbl_gates; /* 0 topk, 1 full */
    bool quiet;
    struct vkmoe_model_config model;
    struct vkmoe_train_config train;
};

/* Flags whose default is the preset's begin so; its table is printed from them. */
#define OF_PRESET_TEXT "preset"
#define OF_PRESET .otherwise = OF_PRESET_TEXT

#define TRAINING_FLAG(values, flag_name, flag_type, member, ...)                                                       \
    { .name = flag_name, .type = flag_type, .offset = offsetof(values, training.member), __VA_ARGS__ }
#define TRAINING_COUNT(values, name, member, ...)                                                                      \
    TRAINING_FLAG(values, name, OPTION_U32, member, .value = "N", OF_PRESET, __VA_ARGS__)
#define TRAINING_FLOAT(values, name, member, ...)                                                                      \
    TRAINING_FLAG(values, name, OPTION_FLOAT, member, .value = "X", OF_PRESET, __VA_ARGS__)

/* Rows for the table of a subcommand. */
#define TRAINING_OPTIONS(values)                                                                                       \
    TRAINING_FLAG(values, "data", OPTION_TEXT_LIST, data, .value = "PATH", .otherwise = "required; repeatable",        \
                  .help = "file or directory of UTF-8 text"),                                                          \
    TRAINING_FLAG(values, "valid", OPTION_TEXT_LIST, valid, .value = "PATH",                                           \
                  .otherwise = "the last 10% of --data; repeatable", .help = "text for validation"),                   \
    TRAINING_FLAG(values, "preset", OPTION_TEXT, preset, .value = "NAME", .initial = "tiny",                           \
                  .help = "sizes and recipe to start from, see below"),                                                \
    TRAINING_COUNT(values, "layers", model.layers, .min = 1, .help = "Transformer blocks"),                            \
    TRAINING_COUNT(values, "d-model", model.d_model, .min = 1, .help = "width of the model, a multiple of --heads"),   \
    TRAINING_COUNT(values, "heads", model.heads, .min = 1, .help = "attention heads"),                                 \
    TRAINING_COUNT(values, "experts", model.experts, .min = 1, .help = "experts in a block"),                          \
    TRAINING_COUNT(values, "top-k", model.top_k, .min = 1, .help = "experts active for a token"),                      \
    TRAINING_COUNT(values, "d-expert", model.d_expert, .min = 1,                                                       \
                   .help = "hidden width of an expert, a multiple of 4"),                                              \
    TRAINING_COUNT(values, "d-shared", model.d_shared,                                                                 \
                   .help = "hidden width of the expert for every token; 0: none"),                     \
    TRAINING_FLAG(values, "gate", OPTION_CHOICE, model.gate, .value = "softmax|sigmoid", OF_PRESET,                    \
                  .help = "what makes weights of the router's logits"),                                                \
    TRAINING_FLAG(values, "norm-topk", OPTION_ON_OFF, model.norm_topk, .value = "on|off", OF_PRESET,                   \
                  .help = "divide the gate weights of a token by their sum"),                                          \
    TRAINING_FLAG(values, "router-init", OPTION_CHOICE, train.router_init,                                             \
                  .value = "orthogonal|normal|unit|orthogonal-small", OF_PRESET,                                       \
                  .help = "rows of the router at the start"),                                                          \
    TRAINING_FLAG(values, "precision", OPTION_CHOICE, train.precision, .value = "f32|f16|bf16", OF_PRESET,             \
                  .help = "of matrix products and the experts' activations"),                                          \
    TRAINING_FLAG(values, "recompute", OPTION_ON_OFF, train.recompute, .value = "on|off", OF_PRESET,                   \
                  .help = "compute activations again in the backward: less memory, the same bits"),                    \
    TRAINING_COUNT(values, "seq", model.seq, .min = 1, .help = "tokens in a context"),                                 \
    TRAINING_COUNT(values, "batch", train.batch, .min = 1, .help = "contexts in a micro-batch"),                       \
    TRAINING_COUNT(values, "accum", train.accum, .min = 1, .help = "micro-batches in a step"),                         \
    TRAINING_COUNT(values, "steps", train.steps, .min = 1, .help = "optimizer steps"),                                 \
    TRAINING_FLAG(values, "seed", OPTION_U64, train.seed, .value = "N", OF_PRESET,                                     \
                  .help = "of initial weights and order of the data"),                                                 \
    TRAINING_FLOAT(values, "lr", train.lr, .help = "peak learning rate"),                                              \
    TRAINING_FLAG(values, "warmup", OPTION_U32, train.warmup, .value = "N",                                            \
                  .otherwise = OF_PRESET_TEXT ", at most half of --steps",                                             \
                  .help = "steps up to the peak, then a cosine to its tenth"),                                         \
    TRAINING_FLOAT(values, "weight-decay", train.weight_decay, .help = "AdamW's, on matrices"),                        \
    TRAINING_FLOAT(values, "clip", train.clip, .help = "largest gradient norm; 0: no clipping"),                       \
    TRAINING_FLOAT(values, "z-loss", train.z_loss,                                                                     \
                   .help = "coefficient of the mean square of the output's log sum exp"),                              \
    TRAINING_FLOAT(values, "router-z-loss", train.balance.router_z,                                                    \
                   .help = "the same of the routers' logits, for the softmax gate; 0: off"),                           \
    TRAINING_FLAG(values, "lbl-scope", OPTION_CHOICE, train.balance.lbl_scope,                                         \
                  .value = "sequence|micro-batch|global", OF_PRESET,                                                   \
                  .help = "tokens that lbl counts together"),                                                          \
    TRAINING_FLAG(values, "lbl-gates", OPTION_CHOICE, lbl_gates, .value = "topk|full", OF_PRESET,                      \
                  .help = "gates that lbl takes the mean of: the active experts', or all"),                            \
    TRAINING_COUNT(values, "eval-every", train.eval_every,                                                             \
                   .help = "steps between validations, each on up to 128 Ki tokens; 0: only at the end"),                \
    TRAINING_COUNT(values, "save-every", train.save_every, .help = "steps between checkpoints; 0: only at the end"),   \
    TRAINING_COUNT(values, "keep", train.keep, .min = 1, .help = "newest checkpoints kept, besides the best"),         \
    TRAINING_COUNT(values, "max-bad-steps", train.max_bad_steps, .min = 1,                                             \
                   .help = "stop after so many steps in a row that are not finite"),                                   \
    TRAINING_FLOAT(values, "spike", train.spike,                                                                       \
                   .help = "go back to the last checkpoint when the loss exceeds X times its mean; 0: never"),         \
    TRAINING_COUNT(values, "log-every", train.log_every, .min = 1, .help = "steps between lines of metrics.jsonl"),    \
    TRAINING_COUNT(values, "pes-tokens", train.pes_tokens,                                                             \
                   .help = "tokens to measure the experts' similarity on; 0: none"),                    \
    TRAINING_COUNT(values, "pes-every", train.pes_every, .help = "steps between such measurements; 0: each validation"), \
    TRAINING_FLAG(values, "tensorboard", OPTION_SWITCH, train.tensorboard, .otherwise = "off",                         \
                  .help = "write what TensorBoard reads, too"),                                                        \
    TRAINING_FLAG(values, "quiet", OPTION_SWITCH, quiet, .otherwise = "off", .help = "print warnings and errors only")

/* After options_parse of the same arguments into values: checks data, fills in the preset and reads the arguments once
 * more over it. training is the member of values, given what options_parse gave. */
enum options_result training_read(const struct command *command, int argc, char **argv, void *values,
                                  struct training_options *training, uint64_t given);
/* Lays the flags over what training->model and ->train hold; training is part of values. */
enum options_result training_override(const struct command *command, int argc, char **argv, void *values,
                                      struct training_options *training);
void training_free(struct training_options *training);

/* What the flags start from, a table; balance: with the preset's --balance. */
void training_print_presets(bool balance);

/* All of it but seed and balance as an object of flags' names and values; NULL: no memory. */
json_t *training_settings(const struct training_options *training);

/* Opens the text; NULL after a message. */
struct vkmoe_data *training_open_data(const struct training_options *training, struct vkmoe_log log);

/* Checks a configuration, prints model and memory unless quiet, and refuses what does not fit. EXIT_OK, or EXIT_USAGE or
 * EXIT_FAILED after a message. *estimate is what was found. */
int training_check(struct vkmoe_context *ctx, const struct vkmoe_model_config *model,
                   const struct vkmoe_train_config *train, bool quiet, struct vkmoe_estimate *estimate);

#endif
