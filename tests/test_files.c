/* Safetensors files, Hugging Face directories and event files, good and damaged. */
#include "base/json.h"
#include "layouts.h"
#include "nn/config.h"
#include "scratch.h"
#include "train/hf.h"
#include "train/safetensors.h"
#include "train/tensorboard.h"

#include <math.h>

TestSuite(files, .init = scratch_begin, .fini = scratch_end);

/* ---- safetensors --------------------------------------------------------------------------------------------- */

static char *slurp(const char *name, size_t *bytes)
{
    char *data;
    assert_ok(vkm_file_read(&test_log, at(name), 1 << 30, &data, bytes));
    return data;
}

static void write_three(const char *name)
{
    struct vkm_safetensors_writer *w;
    const float values[11] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    assert_ok(vkm_safetensors_create(&test_log, at(name), &w));
    assert_ok(vkm_safetensors_note(w, "step", "12"));
    assert_ok(vkm_safetensors_declare(w, "matrix", (const uint64_t[]){2, 3}, 2));
    assert_ok(vkm_safetensors_declare(w, "a vector", (const uint64_t[]){4}, 1));
    assert_ok(vkm_safetensors_declare(w, "scalar", NULL, 0));
    assert_ok(vkm_safetensors_append(w, values, 3));
    assert_ok(vkm_safetensors_append(w, values + 3, 7));
    assert_ok(vkm_safetensors_append(w, values + 10, 1));
    assert_ok(vkm_safetensors_commit(w));
    vkm_safetensors_destroy(w);
}

Test(files, safetensors_round_trip)
{
    struct vkm_safetensors *f;
    const struct vkm_tensor *t;
    float values[6];
    write_three("t");
    assert_ok(vkm_safetensors_open(&test_log, at("t"), &f));
    cr_expect_str_eq(vkm_safetensors_metadata(f, "format"), "pt");
    cr_expect_str_eq(vkm_safetensors_metadata(f, "step"), "12");
    cr_expect_null(vkm_safetensors_metadata(f, "none"));
    assert_ok(vkm_safetensors_expect(f, "matrix", (const uint64_t[]){2, 3}, 2, &t));
    assert_ok(vkm_safetensors_read(f, t, 0, 6, values));
    cr_expect(values[0] == 0 && values[5] == 5);
    assert_ok(vkm_safetensors_expect(f, "a vector", (const uint64_t[]){4}, 1, &t));
    assert_ok(vkm_safetensors_read(f, t, 1, 2, values));
    cr_expect(values[0] == 7 && values[1] == 8);
    expect_failure(vkm_safetensors_read(f, t, 3, 2, values), VKMOE_ERROR_ARGUMENT, "no such f32");
    expect_failure(vkm_safetensors_read(f, t, UINT64_MAX, 2, values), VKMOE_ERROR_ARGUMENT, "no such f32");
    assert_ok(vkm_safetensors_expect(f, "scalar", NULL, 0, &t));
    cr_expect_eq(t->count, 1);
    expect_failure(vkm_safetensors_expect(f, "none", NULL, 0, &t), VKMOE_ERROR_FORMAT, "\"none\" is missing");
    expect_failure(vkm_safetensors_expect(f, "matrix", (const uint64_t[]){3, 2}, 2, &t), VKMOE_ERROR_FORMAT,
                   "F32 [2, 3] where the model's is F32 [3, 2]");
    vkm_safetensors_close(f);
    vkm_safetensors_close(NULL);

    size_t bytes;
    char *raw = slurp("t", &bytes);
    cr_expect_eq((bytes - 11 * sizeof(float)) % 8, 0, "the data are aligned");
    free(raw);
}

Test(files, safetensors_unfinished)
{
    struct vkm_safetensors_writer *w;
    assert_ok(vkm_safetensors_create(&test_log, at("t"), &w));
    assert_ok(vkm_safetensors_declare(w, "x", (const uint64_t[]){2}, 1));
    expect_failure(vkm_safetensors_commit(w), VKMOE_ERROR_ARGUMENT, "0 elements instead of 2");
    vkm_safetensors_destroy(w);
    vkm_safetensors_destroy(NULL);
    cr_expect_neq(access(at("t"), F_OK), 0);
    cr_expect_neq(access(at("t.tmp"), F_OK), 0);
    expect_failure(vkm_safetensors_create(&test_log, at("none/t"), &w), VKMOE_ERROR_IO, "none/t");
    cr_expect_null(w);
}

/* Every shorter file, one byte more, and every byte of the header changed: an error or a sound file, never a crash. */
Test(files, safetensors_damaged)
{
    struct vkm_safetensors *f;
    size_t bytes;
    write_three("t");
    char *raw = slurp("t", &bytes);
    for (size_t cut = 0; cut < bytes; cut++) {
        put_bytes("cut", raw, cut);
        expect_failure(vkm_safetensors_open(&test_log, at("cut"), &f), VKMOE_ERROR_FORMAT, "cut: ");
    }
    char *longer = calloc(bytes + 1, 1);
    memcpy(longer, raw, bytes);
    put_bytes("cut", longer, bytes + 1);
    expect_failure(vkm_safetensors_open(&test_log, at("cut"), &f), VKMOE_ERROR_FORMAT, "45 bytes of data where");
    for (size_t i = 0; i < bytes - 11 * sizeof(float); i++) {
        static const char changes[] = {0, ' ', '0', '9', '"', '-', '[', '\xFF', '\n'};
        for (size_t c = 0; c < sizeof changes; c++) {
            memcpy(longer, raw, bytes);
            longer[i] = changes[c];
            put_bytes("cut", longer, bytes);
            seen.errors = 0;
            enum vkmoe_status status = vkm_safetensors_open(&test_log, at("cut"), &f);
            cr_expect(status == VKMOE_OK ? seen.errors == 0 : status == VKMOE_ERROR_FORMAT && seen.errors == 1,
                      "byte %zu: %s", i, seen.line);
            vkm_safetensors_close(f);
        }
    }
    free(longer);
    free(raw);
    expect_failure(vkm_safetensors_open(&test_log, at("none"), &f), VKMOE_ERROR_IO, "No such file");
    expect_failure(vkm_safetensors_open(&test_log, scratch, &f), VKMOE_ERROR_IO, "a directory");
}

#define X(dtype, shape, offsets) "{\"x\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define XY(x, y) "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":" x "},\"y\":{\"dtype\":\"F32\"," \
    "\"shape\":[1],\"data_offsets\":" y "}}"

/* Headers over 8 bytes of data. says: NULL where the file is sound. */
static const struct {
    const char *header, *says;
} headers[] = {
    {X("\"F32\"", "[2]", "[0,8]"), NULL},
    {X("\"F32\"", "[2,1,1]", "[0,8]") "   ", NULL},
    {X("\"BF16\"", "[4]", "[0,8]"), NULL},
    {X("\"F64\"", "[]", "[0,8]"), NULL},
    {XY("[0,4]", "[4,8]"), NULL},
    {XY("[4,8]", "[0,4]"), NULL},
    {XY("[0,4]", "[0,4]"), "begins at 0 where the one before ends at 4"},
    {XY("[0,4]", "[3,7]"), "begins at 3"},
    {X("\"F32\"", "[1]", "[0,4]"), "8 bytes of data where the tensors need 4"},
    {X("\"F32\"", "[1]", "[4,8]"), "begins at 4"},
    {X("\"F32\"", "[3]", "[0,12]"), "outside the file"},
    {X("\"F32\"", "[2]", "[8,0]"), "outside the file"},
    {X("\"F32\"", "[2]", "[-8,0]"), "outside the file"},
    {X("\"F32\"", "[2]", "[0,8.0]"), "outside the file"},
    {X("\"F32\"", "[2]", "[0]"), "lacks"},
    {X("\"F32\"", "[2]", "8"), "lacks"},
    {X("\"F32\"", "2", "[0,8]"), "lacks"},
    {X("32", "[2]", "[0,8]"), "lacks"},
    {X("\"F33\"", "[2]", "[0,8]"), "unknown dtype"},
    {X("\"F32\"", "[3]", "[0,8]"), "8 bytes where its shape needs 12"},
    {X("\"F32\"", "[-2]", "[0,8]"), "not a size"},
    {X("\"F32\"", "[2.0]", "[0,8]"), "not a size"},
    {X("\"F32\"", "[\"2\"]", "[0,8]"), "not a size"},
    {X("\"F32\"", "[4294967296,4294967296]", "[0,0]"), "overflows"},
    {X("\"F32\"", "[9223372036854775807]", "[0,8]"), "overflows"},
    {X("\"F32\"", "[9223372036854775808]", "[0,8]"), "not valid JSON"},
    {X("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), "9 dimensions"},
    {"{\"x\":1}", "lacks"},
    {"{\"__metadata__\":[]}", "not an object"},
    {"{}", "need 0"},
    {"[]", "not a JSON object"},
    {"{\"x\":NaN}", "not valid JSON"},
    {"", "not valid JSON"},
};

Test(files, safetensors_headers)
{
    struct vkm_safetensors *f;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        char raw[512] = {0};
        size_t length = strlen(headers[i].header);
        raw[0] = (char)(length & 0xFF);
        raw[1] = (char)(length >> 8);
        memcpy(raw + 8, headers[i].header, length);
        put_bytes("t", raw, 8 + length + 8);
        if (headers[i].says) {
            expect_failure(vkm_safetensors_open(&test_log, at("t"), &f), VKMOE_ERROR_FORMAT, headers[i].says);
            continue;
        }
        assert_ok(vkm_safetensors_open(&test_log, at("t"), &f));
        const struct vkm_tensor *t = vkm_safetensors_find(f, "x"), *found;
        if (strcmp(t->dtype, "F32") != 0) {
            float value[8];
            expect_failure(vkm_safetensors_expect(f, "x", t->dims, t->rank, &found), VKMOE_ERROR_FORMAT, t->dtype);
            expect_failure(vkm_safetensors_read(f, t, 0, 1, value), VKMOE_ERROR_ARGUMENT, "no such f32");
        }
        vkm_safetensors_close(f);
    }
    static const unsigned char lengths[][8] = {{255, 255, 255, 255, 255, 255, 255, 255}, {1}, {0, 225, 245, 5}};
    for (size_t i = 0; i < 3; i++) {
        put_bytes("t", lengths[i], 8);
        expect_failure(vkm_safetensors_open(&test_log, at("t"), &f), VKMOE_ERROR_FORMAT,
                       i ? "truncated" : "its header");
    }
}

/* ---- Hugging Face directories --------------------------------------------------------------------------------- */

Test(files, hf_tensors_cover_the_parameters)
{
    for (int layout = 0; layout < LAYOUTS; layout++) {
        const struct layout_case *c = &layout_cases[layout];
        struct vkmoe_model_config model = layout_model(layout);
        struct vkm_params params;
        struct vkm_hf_tensor *tensors;
        size_t count, zeros = 0;
        assert_ok(vkm_params_create(&test_log, &model, NULL, &params));
        assert_ok(vkm_hf_tensors(&test_log, &model, &tensors, &count));
        for (uint32_t p = 0; p < params.count; p++) {
            const struct vkm_param *param = &params.list[p];
            char *covered = calloc(param->count + 1, 1);
            for (size_t i = 0; i < count; i++) {
                if (tensors[i].zeros || vkm_params_get(&params, tensors[i].param, tensors[i].layer) != param)
                    continue;
                cr_assert(tensors[i].first + tensors[i].count <= param->count, "%s", tensors[i].name);
                for (uint64_t e = 0; e < tensors[i].count; e++)
                    covered[tensors[i].first + e]++;
            }
            for (uint64_t e = 0; e < param->count; e++)
                cr_assert_eq(covered[e], 1, "%s: %s[%llu] %d times", c->type, param->name, (unsigned long long)e, covered[e]);
            free(covered);
        }
        for (size_t i = 0; i < count; i++) {
            zeros += tensors[i].zeros;
            bool halved = c->d_shared && strcmp(c->type, "qwen2_moe") == 0 && tensors[i].param == VKM_PARAM_SHARED2;
            cr_expect_eq(tensors[i].scale, halved ? 2 : 1, "%s", tensors[i].name);
        }
        cr_expect_eq(zeros, 2 * c->zeros, "%s: %zu of zeros", c->type, zeros);
        cr_expect_eq(count, 3 + 2 * (2 + 4 + 1 + 5 * 3 + c->slices) + zeros, "%s: %zu tensors", c->type, count);
        free(tensors);
        vkm_params_destroy(&params);
    }
}

static void expect_round_trip(const struct vkmoe_model_config *model, const char *type)
{
    struct vkmoe_model_config read = {0};
    json_t *root;
    assert_ok(vkm_hf_config_write(&test_log, scratch, model));
    assert_ok(vkm_hf_config_read(&test_log, scratch, &read));
    cr_expect(same_model(&read, model), "%s", type);
    assert_ok(vkm_json_load(&test_log, at("config.json"), &root));
    cr_expect_str_eq(json_string_value(json_object_get(root, "model_type")), type);
    json_decref(root);
}

Test(files, hf_config_round_trip)
{
    struct vkmoe_model_config preset;
    struct vkmoe_train_config unused;
    for (const char *const *name = vkmoe_preset_names(); *name; name++) {
        cr_assert(vkmoe_preset(*name, &preset, &unused));
        expect_round_trip(&preset, preset.norm_topk ? "mixtral" : "qwen2_moe");
    }
    for (int i = 0; i < LAYOUTS; i++) {
        struct vkmoe_model_config model = layout_model(i);
        expect_round_trip(&model, layout_cases[i].type);
    }
}

/* Sets one field of config.json ("null" as JSON takes it away) and reads the directory. */
static enum vkmoe_status read_changed(int layout, const char *key, const char *value)
{
    struct vkmoe_model_config model = layout_model(layout);
    json_t *root;
    assert_ok(vkm_hf_config_write(&test_log, scratch, &model));
    assert_ok(vkm_json_load(&test_log, at("config.json"), &root));
    json_object_set_new(root, key, json_loads(value, JSON_DECODE_ANY, NULL));
    assert_ok(vkm_json_save(&test_log, at("config.json"), root));
    return vkm_hf_config_read(&test_log, scratch, &model);
}

Test(files, hf_config_failures)
{
    static const struct {
        int layout;                 /* of layout_cases */
        const char *key, *value, *says;
    } cases[] = {
        {0, "model_type", "\"llama\"", "\"mixtral\", \"qwen2_moe\", \"glm4_moe\" or \"vkmoe_moe\""},
        {0, "model_type", "null", "a string"},
        {0, "num_hidden_layers", "0", "\"num_hidden_layers\" must be an integer from 1 to 256"},
        {0, "num_hidden_layers", "1e3", "an integer"},
        {0, "hidden_size", "25", "\"head_dim\""},
        {0, "num_local_experts", "2000", "config.json: experts (2000)"},
        {0, "num_experts_per_tok", "6", "config.json: top_k (6) must be between 1 and experts (5)"},
        {0, "num_key_value_heads", "1", "equal to"},
        {0, "tie_word_embeddings", "true", "must be false"},
        {0, "sliding_window", "4096", "must be null"},
        {0, "vocab_size", "100", "vocab (100)"},
        {0, "rms_norm_eps", "0", "norm_eps (0)"},
        {0, "rope_theta", "\"x\"", "a number"},
        {1, "norm_topk_prob", "true", "must be \"mixtral\" for what the other fields describe"},
        {1, "norm_topk_prob", "null", "true or false"},
        {1, "shared_expert_intermediate_size", "8", "must be 4 where"},
        {1, "vkmoe_shared_expert", "7", "true or false"},
        {1, "decoder_sparse_step", "2", "from 1 to 1"},
        {1, "num_experts", "null", "an integer"},
        {3, "shared_expert_intermediate_size", "0", "an integer from 1"},
        {3, "shared_expert_intermediate_size", "21", "d_shared (21) must be a multiple of 4"},
        {3, "vkmoe_shared_expert", "false", "must be 4 where"},
        {3, "vkmoe_shared_expert", "null", "must be 4 where"},
        {4, "n_shared_experts", "2", "must be 1 where"},
        {4, "vkmoe_shared_expert", "null", "true or false"},
        {5, "n_shared_experts", "0", "\"n_shared_experts\" must be an integer from 1"},
        {5, "n_shared_experts", "4000000000", "\"n_shared_experts\" must be an integer from 1"},
        {5, "moe_intermediate_size", "0", "\"moe_intermediate_size\" must be an integer from 1"},
        {5, "n_group", "2", "from 1 to 1"},
        {5, "topk_group", "0", "from 1 to 1"},
        {5, "routed_scaling_factor", "2.5", "\"routed_scaling_factor\" must be 1"},
        {5, "first_k_dense_replace", "1", "from 0 to 0"},
        {5, "attention_bias", "true", "must be false"},
        {5, "use_qk_norm", "true", "must be false"},
        {5, "partial_rotary_factor", "0.5", "\"partial_rotary_factor\" must be 1"},
        {8, "gate", "\"tanh\"", "\"softmax\" or \"sigmoid\""},
        {8, "gate", "null", "a string"},
        {8, "router_bias", "false", "must be \"mixtral\" for what"},
        {8, "router_bias", "1", "true or false"},
        {8, "shared_expert_intermediate_size", "-4", "an integer from 0"},
        {7, "shared_expert_intermediate_size", "24", "must be \"glm4_moe\" for what"},
    };
    struct vkmoe_model_config model;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_failure(read_changed(cases[i].layout, cases[i].key, cases[i].value), VKMOE_ERROR_FORMAT,
                       cases[i].says);
    expect_failure(vkm_hf_config_read(&test_log, at("none"), &model), VKMOE_ERROR_IO, "none/config.json");
    put("config.json", "{");
    expect_failure(vkm_hf_config_read(&test_log, scratch, &model), VKMOE_ERROR_FORMAT, "config.json:1:");
}

/* ---- event files ---------------------------------------------------------------------------------------------- */

static uint64_t little(const unsigned char *at, int width)
{
    uint64_t value = 0;
    for (int i = width; i-- > 0;)
        value = value << 8 | at[i];
    return value;
}

/* CRC-32C by polynomial division, and the mask that TFRecord puts over it. */
static uint32_t masked(const unsigned char *data, size_t count)
{
    uint64_t crc = 0xFFFFFFFF;
    for (size_t bit = 0; bit < 8 * count; bit++) {
        uint64_t out = (crc ^ (uint64_t)(data[bit / 8] >> bit % 8)) & 1;
        crc = (crc >> 1) ^ (out * 0x82F63B78);
    }
    uint32_t value = (uint32_t)~crc;
    return (value >> 15 | value << 17) + 0xA282EAD8;
}

static uint64_t varint(const unsigned char **at)
{
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
        unsigned char byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return value;
    }
}

/* The next record of the file; its CRCs are right. */
static const unsigned char *record(const unsigned char **at, const unsigned char *end, size_t *count)
{
    cr_assert(end - *at >= 16);
    *count = (size_t)little(*at, 8);
    cr_assert_eq(little(*at + 8, 4), masked(*at, 8));
    const unsigned char *data = *at + 12;
    cr_assert((size_t)(end - data) >= *count + 4);
    cr_assert_eq(little(data + *count, 4), masked(data, *count));
    *at = data + *count + 4;
    return data;
}

static void expect_event(const unsigned char **at, const unsigned char *end, const char *tag, uint64_t step, float value)
{
    size_t count, length = strlen(tag);
    const unsigned char *e = record(at, end, &count), *stop = e + count;
    uint64_t bits;
    double wall;
    uint32_t single;
    float is;
    cr_assert_eq(*e++, 1 << 3 | 1);
    bits = little(e, 8);
    memcpy(&wall, &bits, 8);
    cr_expect(wall > 1.6e9 && wall < 1e11, "%f", wall);
    e += 8;
    cr_assert_eq(*e++, 2 << 3);
    cr_expect_eq(varint(&e), step);
    cr_assert_eq(*e++, 5 << 3 | 2);
    uint64_t summary = varint(&e);
    cr_assert_eq(e + summary, stop);
    cr_assert_eq(*e++, 1 << 3 | 2);
    uint64_t point = varint(&e);
    cr_assert_eq(e + point, stop);
    cr_assert_eq(*e++, 1 << 3 | 2);
    cr_assert_eq(varint(&e), length);
    cr_assert_eq(memcmp(e, tag, length), 0);
    e += length;
    cr_assert_eq(*e++, 2 << 3 | 5);
    single = (uint32_t)little(e, 4);
    memcpy(&is, &single, 4);
    cr_expect(is == value || (isnan(is) && isnan(value)), "%s: %g", tag, (double)is);
    cr_assert_eq(e + 4, stop);
}

/* The only file of the directory whose name begins so. */
static const char *find_events(const char *dir)
{
    static char name[300];
    DIR *d = opendir(at(dir));
    unsigned found = 0;
    cr_assert(d);
    for (struct dirent *entry; (entry = readdir(d));) {
        if (strncmp(entry->d_name, "events.out.tfevents.", 20) == 0) {
            found++;
            snprintf(name, sizeof name, "%s/%s", dir, entry->d_name);
        }
    }
    closedir(d);
    cr_assert_eq(found, 1);
    return name;
}

Test(files, event_file)
{
    struct vkm_tensorboard *tb;
    size_t bytes, before, count;
    char *data, tag[202] = {0};
    cr_assert_eq(masked((const unsigned char *)"123456789", 9), ((0xE3069283u >> 15) | (0xE3069283u << 17)) + 0xA282EAD8u);
    make_dir("run");
    assert_ok(vkm_tensorboard_open(&test_log, at("run"), &tb));
    data = slurp(find_events("run"), &before);
    free(data);
    assert_ok(vkm_tensorboard_scalar(tb, "train/loss", 1, 5.25));
    assert_ok(vkm_tensorboard_scalar(tb, "layer 0/load", 300, NAN));
    assert_ok(vkm_tensorboard_flush(tb));
    memset(tag, 't', 200);
    assert_ok(vkm_tensorboard_scalar(tb, tag, UINT64_MAX >> 1, -1e-3));
    tag[200] = 't';
    expect_failure(vkm_tensorboard_scalar(tb, tag, 1, 0), VKMOE_ERROR_ARGUMENT, "200 bytes");
    vkm_tensorboard_close(tb);
    vkm_tensorboard_close(NULL);

    data = slurp(find_events("run"), &bytes);
    const unsigned char *p = (const unsigned char *)data, *end = p + bytes, *first = record(&p, end, &count);
    cr_assert_eq(count, 9 + 2 + 13);
    cr_expect_eq(memcmp(first + 9, "\x1A\x0D" "brain.Event:2", 15), 0);
    cr_expect_eq((size_t)(p - (const unsigned char *)data), before, "the first record is there at once");
    expect_event(&p, end, "train/loss", 1, 5.25f);
    expect_event(&p, end, "layer 0/load", 300, NAN);
    tag[200] = '\0';
    expect_event(&p, end, tag, UINT64_MAX >> 1, -1e-3f);
    cr_expect_eq(p, end);
    free(data);
}

Test(files, event_file_failures)
{
    struct vkm_tensorboard *tb, *other;
    expect_failure(vkm_tensorboard_open(&test_log, at("none"), &tb), VKMOE_ERROR_IO, "none/events.out.tfevents.");
    cr_expect_null(tb);
    /* Two within a second: two files. */
    assert_ok(vkm_tensorboard_open(&test_log, scratch, &tb));
    assert_ok(vkm_tensorboard_open(&test_log, scratch, &other));
    vkm_tensorboard_close(tb);
    vkm_tensorboard_close(other);
    struct dirent **names;
    int count = scandir(scratch, &names, NULL, NULL);
    cr_expect_eq(count, 4, ". and .. and two files");
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
}
