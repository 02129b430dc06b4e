/* Text: the files of a directory, and one that is named, which is the input's first. */
#include <stdio.h>

#include "base/utf8.h"
#include "fuzz.h"
#include "train/data.h"

enum { SEQ = 7 };

/* Text is UTF-8 without zeros, and not empty. */
static bool is_text(const struct fuzz_part *part)
{
    struct vkm_utf8 state = {0};
    bool text = part->bytes > 0 && vkm_utf8_check(&state, part->data, part->bytes) == part->bytes && state.due == 0;
    for (size_t i = 0; i < part->bytes; i++)
        text = text && part->data[i] != 0;
    return text;
}

static void check_windows(const struct vkmoe_data *data, enum vkm_split split)
{
    uint32_t tokens[SEQ], targets[SEQ];
    uint64_t predicted = 0;
    const uint64_t windows = vkm_data_windows(data, split, SEQ), count = vkm_data_tokens(data, split);
    for (uint64_t i = 0; i <= windows; i++) {
        predicted += vkm_data_window(data, split, i, SEQ, tokens, targets);
        for (int k = 0; k < SEQ; k++)
            fuzz_require(tokens[k] < VKMOE_BYTE_VOCAB && (targets[k] < VKMOE_BYTE_VOCAB || targets[k] == VKM_TARGET_NONE));
    }
    fuzz_require(predicted == (count < 2 ? 0 : count - 1) && vkm_data_bytes(data, split) <= count);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes)
{
    struct fuzz_part parts[FUZZ_PARTS];
    const size_t count = fuzz_parts(input, bytes, parts);
    bool any = count == 1;
    for (size_t i = 0; i < FUZZ_PARTS; i++) {
        char name[16];
        snprintf(name, sizeof name, i ? "text/%zu" : "named", i);
        fuzz_put(name, i < count ? &parts[i] : NULL);
        any = any || (i > 0 && is_text(&parts[i]));
    }
    struct vkmoe_data *data;
    const char *const paths[] = {fuzz_path("named"), fuzz_path("text")};
    const bool fine = fuzz_fine(vkmoe_data_open(&(struct vkmoe_data_desc){
        .log = *fuzz_log(), .train = paths, .train_count = count > 1 ? 2 : 1}, &data));
    fuzz_require(fine == (is_text(&parts[0]) && any));
    if (!fine)
        return 0;
    const struct vkmoe_data_info info = vkmoe_data_info(data);
    fuzz_require(info.files + info.files_skipped == count);
    fuzz_require(vkm_data_tokens(data, VKM_SPLIT_ALL) == info.train_tokens + info.valid_tokens);
    fuzz_require(vkm_data_tokens(data, VKM_SPLIT_ALL) <= bytes + count);
    for (int split = VKM_SPLIT_TRAIN; split <= VKM_SPLIT_ALL; split++)
        check_windows(data, (enum vkm_split)split);
    if (fuzz_fine(vkm_data_check(data, SEQ))) {
        uint32_t tokens[4 * SEQ], targets[4 * SEQ];
        vkm_data_sample(data, 1, 0, 4, SEQ, tokens, targets);
    }
    vkmoe_data_close(data);
    return 0;
}
