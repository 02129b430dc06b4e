#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"
#include "train/data.h"

static const char end_of_text[] = "<|endoftext|>";

/* The printable character that GPT-2's byte-level BPE writes for a byte: itself where it is printable Latin-1, else the
 * next free one from U+0100 on. text[5] receives it as UTF-8. */
static void byte_character(unsigned byte, char *text)
{
    unsigned code = 0x100;
    for (unsigned b = 0; b <= byte; b++) {
        bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        if (b == byte && printable)
            code = b;
        else if (b < byte && !printable)
            code++;
    }
    if (code < 0x80)
        snprintf(text, 5, "%c", (int)code);
    else
        snprintf(text, 5, "%c%c", (int)(0xC0 | code >> 6), (int)(0x80 | (code & 0x3F)));
}

static json_t *vocabulary(void)
{
    json_t *vocab = json_object();
    int failed = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[5];
        byte_character(byte, text);
        failed |= json_object_set_new(vocab, text, json_integer((json_int_t)byte));
    }
    failed |= json_object_set_new(vocab, end_of_text, json_integer(VKMOE_TOKEN_END_OF_TEXT));
    if (!failed)
        return vocab;
    json_decref(vocab);
    return NULL;
}

static json_t *byte_level(void)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 0, "use_regex",
                     0);
}

static json_t *tokenizer(void)
{
    json_t *added = json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", VKMOE_TOKEN_END_OF_TEXT, "content",
                              end_of_text, "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
    json_t *model = json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:o, s:[]}", "type", "BPE", "dropout", "unk_token",
                              "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
                              "vocab", vocabulary(), "merges");
    return json_pack("{s:s, s:n, s:n, s:[o], s:n, s:o, s:n, s:o, s:o}", "version", "1.0", "truncation", "padding",
                     "added_tokens", added, "normalizer", "pre_tokenizer", byte_level(), "post_processor", "decoder",
                     byte_level(), "model", model);
}

static enum vkmoe_status save(const struct vkmoe_log *log, const char *dir, const char *name, json_t *object)
{
    char *path = vkm_path_join(dir, name);
    enum vkmoe_status status;
    if (path) {
        status = vkm_json_save(log, path, object);
    } else {
        json_decref(object);
        status = vkm_fail_memory(log);
    }
    free(path);
    return status;
}

enum vkmoe_status vkm_tokenizer_write(const struct vkmoe_log *log, const char *dir)
{
    enum vkmoe_status status = save(log, dir, "tokenizer.json", tokenizer());
    if (status != VKMOE_OK)
        return status;
    return save(log, dir, "tokenizer_config.json",
                json_pack("{s:s, s:s, s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "bos_token",
                          end_of_text, "eos_token", end_of_text, "clean_up_tokenization_spaces", 0));
}
