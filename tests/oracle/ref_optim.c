#include "oracle.h"

struct num ref_grad_norm(size_t n, const struct num *g)
{
    struct num_sum sum = {0};
    for (size_t i = 0; i < n; i++)
        num_sum_mul(&sum, g[i], g[i]);
    return num_sqrt(num_sum_end(&sum));
}

struct num ref_clip_factor(double clip, struct num norm)
{
    if (clip == 0 || norm.v == 0)
        return num_exact(1);
    return num_min(num_exact(1), num_div(num_exact(clip), norm));
}

void ref_adamw(const struct ref_adamw *opt, size_t n, struct num factor, const struct num *g, struct num *w,
               struct num *m, struct num *v)
{
    const struct num one = num_exact(1), lr = num_exact(opt->lr);
    const struct num beta1 = num_exact(opt->beta1), beta2 = num_exact(opt->beta2);
    const struct num rest1 = num_sub(one, beta1), rest2 = num_sub(one, beta2);
    const struct num keep = num_sub(one, num_mul(lr, num_exact(opt->weight_decay)));
    for (size_t i = 0; i < n; i++) {
        const struct num d = num_mul(factor, g[i]);
        m[i] = num_add(num_mul(beta1, m[i]), num_mul(rest1, d));
        v[i] = num_add(num_mul(beta2, v[i]), num_mul(rest2, num_mul(d, d)));
        const struct num root = num_sqrt(num_div(v[i], num_exact(opt->bias2)));
        const struct num step = num_div(num_div(m[i], num_exact(opt->bias1)), num_add(root, num_exact(opt->eps)));
        w[i] = num_sub(num_mul(w[i], keep), num_mul(lr, step));
    }
}
