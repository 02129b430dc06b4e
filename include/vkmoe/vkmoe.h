/* vkmoe: train and run small Mixture-of-Experts language models on any Vulkan 1.3 device.
 *
 * Data flows one way:  text -> tokens -> step -> metrics -> checkpoint.
 *
 *     struct vkmoe_context *ctx;     a device                      vkmoe_context_create
 *     struct vkmoe_data    *data;    tokens read from text         vkmoe_data_open
 *     struct vkmoe_trainer *trainer; a model and its optimizer     vkmoe_trainer_create, _step, _evaluate, _save
 *     struct vkmoe_model   *model;   a saved model                 vkmoe_model_load, _evaluate, _generate
 *
 * Conventions
 *   - A function that can fail returns enum vkmoe_status. On failure it has called the log callback once with one line
 *     that says what is wrong and what to do, has set its out parameter to NULL and has left nothing behind.
 *   - A zero-initialised descriptor is valid and means the defaults, unless a field says "required".
 *   - The caller owns what a _create, _open, _load or _list function returns and gives it to the matching _destroy,
 *     _close or _free, which accept NULL. Objects are destroyed before the context that they were created from.
 *   - Strings are UTF-8, NUL-terminated and copied where they are kept.
 *   - A context and everything made from it belong to one thread at a time; different contexts are independent.
 *   - The library does not print, exit, read the environment or install signal handlers.
 *   - "nats" are natural-log units; perplexity is exp(loss); bits per byte is loss / ln 2 for byte tokens.
 */
#ifndef VKMOE_VKMOE_H
#define VKMOE_VKMOE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define VKMOE_API __declspec(dllexport)
#else
#define VKMOE_API __attribute__((visibility("default")))
#endif

#define VKMOE_VERSION_MAJOR 0
#define VKMOE_VERSION_MINOR 1
#define VKMOE_VERSION_PATCH 0

#define VKMOE_VERSION_NUMBER (VKMOE_VERSION_MAJOR << 22 | VKMOE_VERSION_MINOR << 12 | VKMOE_VERSION_PATCH)

/* "major.minor.patch" of the library that is linked. Never NULL, never freed. */
VKMOE_API const char *vkmoe_version(void);

/* Whether a program that was compiled with headers of that version (VKMOE_VERSION_NUMBER) can use this library: versions are
 * semantic, so the library is of the same major version (of the same minor one, too, while major is 0) and not older. */
VKMOE_API bool vkmoe_version_fits(uint32_t version_number);

/* ---- status and messages ------------------------------------------------------------------------------------- */

enum vkmoe_status {
    VKMOE_OK = 0,
    VKMOE_ERROR_ARGUMENT,      /* a value the caller gave is out of range or contradicts another */
    VKMOE_ERROR_DEVICE,        /* no such device, or it lacks a required feature */
    VKMOE_ERROR_MEMORY,        /* the host has no memory left */
    VKMOE_ERROR_DEVICE_MEMORY, /* the model does not fit the device */
    VKMOE_ERROR_IO,            /* a file or directory could not be read or written */
    VKMOE_ERROR_FORMAT,        /* a file was read but is not what it claims to be */
    VKMOE_ERROR_DEVICE_LOST,   /* the driver reset or lost the device, or it hangs; the context is of no further use */
    VKMOE_ERROR_VULKAN,        /* any other Vulkan failure; the message names the call and its result */
    VKMOE_ERROR_DIVERGED,      /* training has come to numbers that are not finite, or a loss that jumps again and again */
};

/* Short lower-case name of a status, for messages. Never NULL. */
VKMOE_API const char *vkmoe_status_name(enum vkmoe_status status);

enum vkmoe_log_level { VKMOE_LOG_ERROR, VKMOE_LOG_WARNING, VKMOE_LOG_INFO, VKMOE_LOG_DEBUG };

/* Releases a text that the library returned in a char **. Accepts NULL. */
VKMOE_API void vkmoe_text_free(char *text);

/* Receives one line without a newline; called on the thread that called the library. */
typedef void (*vkmoe_log_fn)(void *user, enum vkmoe_log_level level, const char *line);

/* Where messages go. A zero one drops them. */
struct vkmoe_log {
    vkmoe_log_fn fn;
    void *user;
};

/* ---- devices and contexts ------------------------------------------------------------------------------------ */

enum vkmoe_device_type {
    VKMOE_DEVICE_OTHER,
    VKMOE_DEVICE_INTEGRATED,
    VKMOE_DEVICE_DISCRETE,
    VKMOE_DEVICE_VIRTUAL,
    VKMOE_DEVICE_CPU,
};

struct vkmoe_device_info {
    char name[256];
    char driver[256];          /* driver name and version, as the driver words it */
    char uuid[37];             /* the driver's device UUID, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx" */
    enum vkmoe_device_type type;
    uint32_t api_version;      /* as Vulkan packs it: major << 22 | minor << 12 | patch */
    uint64_t memory_bytes;     /* size of the largest device-local heap */
    uint32_t subgroup_size;    /* the default subgroup size, in invocations */
    uint32_t shared_bytes;     /* shared memory of a workgroup */
    bool float16;              /* f16 arithmetic and storage */
    bool storage16;            /* 16-bit arrays: what VKMOE_F16 and VKMOE_BF16 need */
    bool bfloat16;             /* VK_KHR_shader_bfloat16 */
    bool cooperative_matrix;   /* VK_KHR_cooperative_matrix */
    bool usable;               /* vkmoe can run on it */
    char reason[160];          /* why not, where it is not usable; else empty */
};

struct vkmoe_context_desc {
    struct vkmoe_log log;
    const char *device;        /* index in vkmoe_devices_list's order, part of a name (any case), or UUID; NULL: the
                                  first usable device, discrete before integrated before virtual before CPU */
    const char *cache_dir;     /* existing or creatable directory for compiled pipelines; NULL: none kept on disk */
    const char *profile_path;  /* file for a Chrome/Perfetto trace of GPU operations, written by
                                  vkmoe_context_destroy; NULL: none. Profiling makes every submission wait. */
    bool validate;             /* turn on the Vulkan validation layers (core and synchronization); an error if they
                                  are not installed. Their messages go to the log as errors. */
    uint32_t timeout_seconds;  /* a device that finishes none of its submissions for so long is taken to hang: the function
                                  that waits for it returns ERROR_DEVICE_LOST; 0: 120, of a software device 1800 */
};

struct vkmoe_context;

/* All Vulkan devices in the order that indices count, usable or not. *out is freed with vkmoe_devices_free. */
VKMOE_API enum vkmoe_status vkmoe_devices_list(struct vkmoe_log log, struct vkmoe_device_info **out, size_t *count);
VKMOE_API void vkmoe_devices_free(struct vkmoe_device_info *devices);

/* Opens a device of the library's own. desc may be NULL. */
VKMOE_API enum vkmoe_status vkmoe_context_create(const struct vkmoe_context_desc *desc, struct vkmoe_context **out);

/* Destroys it. Where a device hangs, which may still be using what lies on it, this and the other destroy functions free host
 * memory alone and return at once: device memory, the device and the instance stay as they are until the process ends, and
 * drivers' threads may still run then (_exit or quick_exit spares them what exit would take away). */
VKMOE_API void vkmoe_context_destroy(struct vkmoe_context *ctx);

/* Whether the device was lost or hangs. That is said once: every function that needs the device then returns ERROR_DEVICE_LOST
 * at once, and says no more of it. */
VKMOE_API bool vkmoe_context_lost(const struct vkmoe_context *ctx);

/* The context's device. Valid until the context is destroyed. */
VKMOE_API const struct vkmoe_device_info *vkmoe_context_device(const struct vkmoe_context *ctx);

/* How many validation messages have been seen (always 0 unless desc.validate). */
VKMOE_API uint64_t vkmoe_context_validation_messages(const struct vkmoe_context *ctx);

/* ---- configuration ------------------------------------------------------------------------------------------- */

/* What balances the experts' load. Each part is switched on by a coefficient above 0, and all combine; a zero one
 * balances nothing (routers may then collapse onto few experts). W [E,D] is a layer's router, x a token, z = W x, p the
 * gate, f_e the fraction of a group of tokens for which expert e is active (sum_e f_e = K), P_e the mean gate there. */
enum vkmoe_lbl_scope {         /* the group of tokens over which f is counted */
    VKMOE_LBL_SEQUENCE,        /* each sequence: the code of arXiv 2506.14038 */
    VKMOE_LBL_MICRO_BATCH,     /* the micro-batch */
    VKMOE_LBL_GLOBAL_BATCH,    /* the step so far: its micro-batches up to this one (Qiu et al. 2025, arXiv 2501.11873) */
};
struct vkmoe_balance {
    float simbal;              /* lambda of SimBal, added to the loss per layer: lambda sum_ij |(W W^T - I)_ij| (arXiv
                                  2506.14038); usual 0.1 */
    float lbl;                 /* alpha of the load-balancing loss, per layer: alpha E sum_e f_e P_e, f constant (Fedus et
                                  al. 2022, eq. 4); usual 0.01. With a sigmoid gate P is of p / sum_e p. */
    float lossfree;            /* gamma of the loss-free bias: the K largest of z + b are active, the weights stay those of
                                  z; after a step b_e += gamma sign(1/E - f_e / K), f over the step's tokens (Wang et al.
                                  2024, arXiv 2408.15664; added to z as in arXiv 2506.14038); usual 0.001 */
    float router_z;            /* coefficient of mean (log sum exp z)^2, per layer (Zoph et al. 2022); softmax gate only */
    enum vkmoe_lbl_scope lbl_scope;
    bool lbl_full;             /* P over all experts; else p counts as 0 where the expert is not active (the paper's code) */
};

/* Reads "simbal=0.1+lossfree" and the like: none, or one or more of simbal, lbl, lossfree joined by '+', each with
 * "=coefficient" (above 0) or its usual one; the other fields of *out are left as they are. ERROR_ARGUMENT says what is
 * wrong, *out unchanged. */
VKMOE_API enum vkmoe_status vkmoe_balance_parse(struct vkmoe_log log, const char *text, struct vkmoe_balance *out);
/* The shortest text that reads back as the same coefficients: "none", "simbal+lbl=0.02". Returns text. */
enum { VKMOE_BALANCE_TEXT = 80 };
VKMOE_API const char *vkmoe_balance_format(const struct vkmoe_balance *balance, char text[VKMOE_BALANCE_TEXT]);

enum vkmoe_gate {
    VKMOE_GATE_SOFTMAX,        /* p = softmax(z) */
    VKMOE_GATE_SIGMOID,        /* p = 1 / (1 + exp(-z)) */
};

enum vkmoe_router_init {
    VKMOE_ROUTER_ORTHOGONAL,       /* orthonormal rows (Saxe et al. 2014): the paper's */
    VKMOE_ROUTER_NORMAL,           /* normal, standard deviation 0.02, as the other matrices */
    VKMOE_ROUTER_UNIT,             /* random directions, rows of length 1: the scale of the first without its angles */
    VKMOE_ROUTER_ORTHOGONAL_SMALL, /* orthogonal rows of length 0.02 sqrt(D): its angles with the scale of the second */
};

/* The Transformer of the paper: pre-norm, RMSNorm, rotary positions, causal attention, and in every block a layer of
 * SwiGLU experts; untied input and output embeddings; no biases. Every field up to norm_eps is required. */
struct vkmoe_model_config {
    uint32_t layers;           /* L */
    uint32_t d_model;          /* D, a multiple of heads; D / heads is a multiple of 4, at most 256 */
    uint32_t heads;            /* H */
    uint32_t experts;          /* E */
    uint32_t top_k;            /* K, 1..E: experts active for a token */
    uint32_t d_expert;         /* F: hidden width of an expert, a multiple of 4 */
    uint32_t seq;              /* S: tokens in a context */
    uint32_t vocab;            /* V: rows of the embedding; 257 byte-level tokens use the first ones */
    float rope_theta;
    float norm_eps;
    bool norm_topk;            /* divide the K gate weights of a token by their sum (Mixtral); else use them as they are */
    enum vkmoe_gate gate;
    uint32_t d_shared;         /* hidden width of the shared expert, which every token passes through with weight 1, a
                                  multiple of 4; n shared experts of width F are one of n F; 0: none */
    bool router_bias;          /* experts are chosen by z + b: set by a trainer whose balance is loss-free */
};

/* The dense model of equal active size: one expert as wide as the K active ones and the shared one together. */
VKMOE_API struct vkmoe_model_config vkmoe_model_dense(const struct vkmoe_model_config *model);

/* Of matrix products (but the router's) and of the experts' activations in memory; weights, their optimizer, sums and all
 * else are f32 always. */
enum vkmoe_precision {
    VKMOE_F32,
    VKMOE_F16,                 /* with a loss scale that adapts: a step whose gradients overflow is skipped and counted */
    VKMOE_BF16,
};

struct vkmoe_train_config {
    uint64_t seed;             /* initial weights and order of the data */
    uint32_t steps;            /* optimizer steps; the learning rate's schedule ends there */
    uint32_t batch;            /* B: sequences in a micro-batch */
    uint32_t accum;            /* micro-batches in a step; 0 means 1 */
    uint32_t warmup;           /* steps of linear warm-up from 10% of lr; then cosine to 10% of lr at the last step */
    float lr;                  /* peak learning rate */
    float beta1, beta2, eps;   /* AdamW; 0 means 0.9, 0.95, 1e-8 */
    float weight_decay;        /* on matrices and embeddings, not on norm weights */
    float clip;                /* global gradient norm; 0: no clipping */
    struct vkmoe_balance balance;
    enum vkmoe_router_init router_init;
    float z_loss;              /* coefficient of mean (log sum exp logits)^2 */
    enum vkmoe_precision precision; /* 16 bits: on devices with storage16; ERROR_DEVICE elsewhere */
    bool recompute;            /* keep less of each block for the backward and compute it again: the same bits in less memory */
    uint32_t log_every;        /* steps between lines of metrics.jsonl; 0 means 10 */
    uint32_t eval_every;       /* steps between validations; 0: only at the end */
    uint32_t save_every;       /* steps between checkpoints; 0: only at the end */
    uint32_t keep;             /* newest checkpoints that are kept, besides the best; 0 means 2 */
    uint32_t max_bad_steps;    /* training ends after as many skipped steps in a row (not finite); 0 means 50 */
    float spike;               /* a loss above `spike` times its mean over the last 50 steps sends the run back to its newest
                                  checkpoint, and on past the text in between; 0: never */
    uint32_t pes_tokens;       /* tokens on which validations measure PES (all experts run on each); 0: not measured */
    uint32_t pes_every;        /* PES is measured by the first validation in each stretch of as many steps, and by the
                                  last; 0: by each */
    bool tensorboard;          /* also write run_dir/events.out.tfevents.*, which TensorBoard reads */
};

/* Names of the presets, smallest model first, NULL-terminated. */
VKMOE_API const char *const *vkmoe_preset_names(void);

/* Fills both configurations from a preset. false: no preset has that name, nothing is written. */
VKMOE_API bool vkmoe_preset(const char *name, struct vkmoe_model_config *model, struct vkmoe_train_config *train);

/* Parameters and device memory of a model, known before anything is allocated. */
struct vkmoe_estimate {
    uint64_t params_total;     /* all weights */
    uint64_t params_active;    /* weights that one token passes through (K of the E experts; embedding rows counted whole) */
    uint64_t param_bytes;      /* weights, gradients and AdamW's two moments */
    uint64_t activation_bytes; /* saved for the backward, and scratch */
    uint64_t staging_bytes;    /* host-visible, and what validations need besides */
    uint64_t total_bytes;      /* the sum of the three */
    uint64_t available_bytes;  /* what the device has for us */
    uint64_t flops_per_token;  /* forward and backward: 6 x active matrix weights + attention */
};

/* Checks both configurations and fills *out; whether it fits is for the caller to see (total > available) and for
 * vkmoe_trainer_create to refuse. ERROR_ARGUMENT names the field that is wrong. */
VKMOE_API enum vkmoe_status vkmoe_estimate(struct vkmoe_context *ctx, const struct vkmoe_model_config *model,
                                           const struct vkmoe_train_config *train, struct vkmoe_estimate *out);

/* ---- data ---------------------------------------------------------------------------------------------------- */

enum { VKMOE_TOKEN_END_OF_TEXT = 256, VKMOE_BYTE_VOCAB = 257 };

/* Text read as byte tokens: token b for byte b; a line "<|endoftext|>" becomes the one token 256, which also stands
 * between files. A path is a file of UTF-8 text or a directory, of which every file of UTF-8 text is read, in the order
 * of their names, recursively; hidden files and directories are left out. */
struct vkmoe_data_desc {
    struct vkmoe_log log;
    const char *const *train;  /* required for training: train_count paths */
    size_t train_count;
    const char *const *valid;  /* valid_count paths; with none, the last 10% of the training tokens is held out */
    size_t valid_count;
};

struct vkmoe_data_info {
    uint64_t train_tokens, valid_tokens;
    uint64_t files;            /* read */
    uint64_t files_skipped;    /* not text, in directories */
};

struct vkmoe_data;
VKMOE_API enum vkmoe_status vkmoe_data_open(const struct vkmoe_data_desc *desc, struct vkmoe_data **out);
VKMOE_API void vkmoe_data_close(struct vkmoe_data *data);
VKMOE_API struct vkmoe_data_info vkmoe_data_info(const struct vkmoe_data *data);

/* ---- training ------------------------------------------------------------------------------------------------ */

struct vkmoe_trainer_desc {
    struct vkmoe_model_config model; /* required, unless resume_dir */
    struct vkmoe_train_config train; /* required, unless resume_dir */
    const struct vkmoe_data *data;   /* required; stays the caller's and outlives the trainer */
    const char *run_dir;             /* where metrics.jsonl and checkpoints go: created if it is not there, refused if
                                        it already holds a run, or another trainer uses it. NULL: nothing is written. */
    const char *resume_dir;          /* a run directory to go on with: configurations, weights, optimizer and step are
                                        read from its newest checkpoint, and it becomes run_dir; train.steps, if not 0,
                                        replaces its own */
    bool resume_train;               /* with resume_dir: all of train replaces its own (vkmoe_checkpoint_config gives that to
                                        begin with), and the log tells as warnings what differs */
};

/* How one layer routes, over the tokens of a step or of an evaluation (in whole batches: where the last is not full, some
 * contexts stand in twice). A number that has no value, as of a model that diverged, is NaN. docs/numerics.md has the
 * formulas. */
enum { VKMOE_GATE_BINS = 16 };
struct vkmoe_layer_metrics {
    double load_max, load_min; /* tokens of the busiest and the idlest expert, over the mean of all */
    double load_cv;            /* standard deviation of the experts' tokens over their mean */
    uint32_t dead;             /* experts without a token; experts - dead are the unique experts used */
    double seu;                /* sequence-wise expert utilisation: mean over sequences of (experts used) / E */
    double entropy;            /* of the gate over all E experts (p / sum p), nats, mean over tokens */
    double entropy_topk;       /* of the weights of the active experts, renormalised, nats, mean over tokens */
    double gram_mean_square;   /* mean square of the entries of W W^T - I */
    double gram_max;           /* largest of their magnitudes */
    double gates[VKMOE_GATE_BINS]; /* shares of the K T gate weights that lie in [i/16, (i+1)/16); 1 counts in the last, the
                                  0 of a dropped expert in the first */
    double changed;            /* routing stability: of B contexts of the held-out tokens, always the same, the share of
                                  tokens whose set of active experts is another than at the last validation (or at the
                                  resume); NaN where not measured: at the first, in steps, of saved models */
    double pes, pes_se;        /* pairwise expert similarity, mean over tokens of mean_{i<j} cos(f_i(x), f_j(x)), and its
                                  standard error over tokens; 0 where E = 1, NaN where not measured */
};

/* What one optimizer step reports. Arrays belong to the trainer and hold until its next call. */
struct vkmoe_step_report {
    uint64_t step;             /* 1 for the first; 0: no step has finished yet */
    uint64_t tokens;           /* seen in training so far */
    float loss;                /* mean cross-entropy of the step's tokens, nats */
    float simbal_loss, lbl_loss, router_z_loss; /* with their coefficients, mean over layers and micro-batches */
    float z_loss;              /* with its coefficient */
    float grad_norm;           /* before clipping */
    float lr;
    bool skipped;              /* loss or gradient was not finite: weights unchanged */
    uint64_t skipped_total;
    float loss_scale;          /* of the next step; 1 but for VKMOE_F16 */
    double tokens_per_second;  /* over the last steps, validation and saving left out */
    uint32_t layers, experts;
    const uint32_t *expert_tokens; /* [layers, experts]: routed rows of the step */
    const struct vkmoe_layer_metrics *metrics; /* [layers] at steps that metrics.jsonl gets; NULL at
                                  others and without a run_dir */
};

struct vkmoe_trainer;
VKMOE_API enum vkmoe_status vkmoe_trainer_create(struct vkmoe_context *ctx, const struct vkmoe_trainer_desc *desc,
                                                 struct vkmoe_trainer **out);
/* Does not save; waits for what _save_later began. */
VKMOE_API void vkmoe_trainer_destroy(struct vkmoe_trainer *trainer);

/* Hands one optimizer step to the device and reports the newest finished one: the report lags the call by a step. Writes
 * metrics.jsonl where a log step has finished. */
VKMOE_API enum vkmoe_status vkmoe_trainer_step(struct vkmoe_trainer *trainer, struct vkmoe_step_report *report);

/* Waits for all steps handed over and reports the last. */
VKMOE_API enum vkmoe_status vkmoe_trainer_finish(struct vkmoe_trainer *trainer, struct vkmoe_step_report *report);

/* Steps handed over so far (after a resume: with those before). */
VKMOE_API uint64_t vkmoe_trainer_steps(const struct vkmoe_trainer *trainer);

/* What a validation finds. Arrays belong to the trainer and hold until its next call. */
struct vkmoe_validation {
    double loss;               /* mean cross-entropy, nats per token */
    uint64_t tokens;           /* predicted */
    uint32_t layers;
    const struct vkmoe_layer_metrics *metrics; /* [layers] */
};

/* Evaluates on the held-out tokens: all of them (max_tokens 0), or evenly spaced contexts of at most max_tokens together,
 * but one at least; finishes pending steps first. Measures PES where train.pes_every has it due. Adds a line with
 * "val_loss" to metrics.jsonl. */
VKMOE_API enum vkmoe_status vkmoe_trainer_evaluate(struct vkmoe_trainer *trainer, uint64_t max_tokens,
                                                   struct vkmoe_validation *out);

/* Writes the checkpoint run_dir/step-<steps, 8 digits>: the Hugging Face model directory (config.json, model.safetensors,
 * tokenizer.json), optimizer.safetensors, trainer.json and checksums.xxh128. It has that name once all of it is on the disk;
 * then run_dir/latest links to it, run_dir/best does if a validation at this step found the least loss so far (over as many
 * tokens as the first), and older checkpoints but train.keep and the best are removed. Finishes pending steps and an earlier
 * _save_later first. Does nothing where this step has been saved. A failure leaves every checkpoint as it was. */
VKMOE_API enum vkmoe_status vkmoe_trainer_save(struct vkmoe_trainer *trainer);

/* The same without waiting for the disk: copies what is to be saved to the host (12 bytes a parameter) and returns; a thread
 * of the library's writes it while training goes on. How that ended is told, once, by a later call of _step, _save or
 * _save_later. Where the host lacks the memory it waits, as _save does. */
VKMOE_API enum vkmoe_status vkmoe_trainer_save_later(struct vkmoe_trainer *trainer);

/* The newest checkpoint that this trainer has written or begun with, NULL: none; waits for one that is being written. Holds until
 * the trainer's next call. For after a failure, too. */
VKMOE_API const char *vkmoe_trainer_checkpoint(struct vkmoe_trainer *trainer);

VKMOE_API const struct vkmoe_model_config *vkmoe_trainer_model(const struct vkmoe_trainer *trainer);
VKMOE_API const struct vkmoe_train_config *vkmoe_trainer_train(const struct vkmoe_trainer *trainer);

/* ---- checkpoints --------------------------------------------------------------------------------------------- */

/* The directory to load: dir itself where it is a checkpoint or another model directory (it holds config.json or trainer.json),
 * else the newest checkpoint of the run directory. *path is the caller's, for vkmoe_text_free. ERROR_IO where there is none. */
VKMOE_API enum vkmoe_status vkmoe_checkpoint_find(struct vkmoe_log log, const char *dir, char **path);

/* The configurations of a run's newest checkpoint. ERROR_IO, ERROR_FORMAT. */
VKMOE_API enum vkmoe_status vkmoe_checkpoint_config(struct vkmoe_log log, const char *run_dir, struct vkmoe_model_config *model,
                                                    struct vkmoe_train_config *train);

/* Describes a file of tensors, a checkpoint or model directory, or a run (by its newest checkpoint) as a JSON object, for
 * vkmoe_text_free; docs/reliability.md lists its members. Every file is read and compared with its checksum. What can be told
 * of something broken is told, with "problems". ERROR_IO, ERROR_FORMAT: nothing can. */
VKMOE_API enum vkmoe_status vkmoe_inspect(struct vkmoe_log log, const char *path, char **json);

/* ---- saved models -------------------------------------------------------------------------------------------- */

struct vkmoe_model;

/* Loads a checkpoint, the newest one of a run, or another program's model of such a layout; files with a checksum beside them
 * are verified. */
VKMOE_API enum vkmoe_status vkmoe_model_load(struct vkmoe_context *ctx, const char *dir, struct vkmoe_model **out);
VKMOE_API void vkmoe_model_destroy(struct vkmoe_model *model);
VKMOE_API const struct vkmoe_model_config *vkmoe_model_config(const struct vkmoe_model *model);

struct vkmoe_eval_desc {
    const struct vkmoe_data *data; /* required: all tokens of the training paths (given to vkmoe_data_open) are read, what
                                  is held out of them too, in contexts that do not overlap; at least 2 */
    bool held_out;             /* what is held out for validation is read instead */
    float prune_below;         /* an active expert whose gate weight is below it is dropped and not computed, the others
                                  keep their weights (arXiv 2506.14038, Table 6); 0 to 1 */
    uint32_t drop_top;         /* each token passes over its best `drop_top` experts: the next K are active (Dai et al.
                                  2024, Fig. 4); at most experts - top_k */
    uint32_t pes_tokens;       /* tokens on which PES is measured, as a layer gets them from those below without the dropped
                                  experts: there all experts run; 0: it is not */
};

/* Arrays belong to the model and hold until its next call. */
struct vkmoe_eval_result {
    double loss;               /* mean cross-entropy, nats per token */
    double perplexity;         /* exp(loss) */
    double bits_per_byte;      /* loss in bits, per byte of text (end-of-text tokens count as no bytes) */
    uint64_t tokens;           /* predicted */
    uint64_t bytes;
    double seconds;            /* what it took, without PES */
    double active_experts;     /* computed for a token in a layer, mean */
    uint32_t layers, experts;
    const uint64_t *expert_tokens; /* [layers, experts]: routed rows, of whole batches as metrics are */
    const struct vkmoe_layer_metrics *metrics; /* [layers] */
};

VKMOE_API enum vkmoe_status vkmoe_model_evaluate(struct vkmoe_model *model, const struct vkmoe_eval_desc *desc,
                                                 struct vkmoe_eval_result *out);

struct vkmoe_generate_desc {
    const char *prompt;        /* NULL or "": begins after an end-of-text token */
    uint32_t max_tokens;       /* 0 means 256 */
    float temperature;         /* 0: always the likeliest token */
    float top_p;               /* sample from the smallest set of tokens with this probability; 0 means 1: all */
    uint64_t seed;
};

/* Receives bytes as they are sampled (whole UTF-8 characters are not guaranteed); return false to stop. */
typedef bool (*vkmoe_text_fn)(void *user, const char *bytes, size_t count);

/* Stops after max_tokens, at an end-of-text token, or when fn returns false. The prompt is not repeated to fn. */
VKMOE_API enum vkmoe_status vkmoe_model_generate(struct vkmoe_model *model, const struct vkmoe_generate_desc *desc,
                                                 vkmoe_text_fn fn, void *user);

#ifdef __cplusplus
}
#endif
#endif
