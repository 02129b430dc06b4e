/* A context on a host's device: the host makes instance, device and queue as it likes, and gets the bits that a context of
 * the library's own gives. */
#include <stdlib.h>
#include <string.h>

#include "gpu/device.h"
#include "gpu/features.h"
#include "host_fixture.h"
#include "train_fixture.h"

static float loss_after(struct vkmoe_context *ctx, struct vkmoe_data *data, unsigned count)
{
    struct vkmoe_trainer *t = trainer(ctx, &(struct vkmoe_trainer_desc){.model = model, .train = train, .data = data});
    const float loss = steps(t, count).loss;
    vkmoe_trainer_destroy(t);
    return loss;
}

/* ---- tests ------------------------------------------------------------------------------------------------------ */

Test(adopt, gives_the_bits_of_a_device_of_its_own, .init = scratch_begin, .fini = scratch_end)
{
    struct host h;
    struct vkmoe_context *ctx, *own;
    struct vkmoe_data *data = text();
    host_begin(&h);
    host_open(&h, h.needs->liked, true);
    struct vkmoe_vulkan_desc desc = host_desc(&h, h.needs->liked, true);
    cr_assert_eq(vkmoe_context_adopt(&desc, &ctx), VKMOE_OK, "%s", seen.last);
    const float adopted = loss_after(ctx, data, 5);
    cr_expect(h.locks > 0 && h.allocations > 0);
    vkmoe_context_destroy(ctx);
    host_end(&h);
    cr_expect_eq(seen.errors, 0, "%s", seen.last);
    own = open_context();
    cr_expect_eq(loss_after(own, data, 5), adopted);
    close_context(own, 0);
    vkmoe_data_close(data);
}

/* Two contexts on a device that has no more than what is required, used in turn; one goes before the other. */
Test(adopt, shares_a_device, .init = scratch_begin, .fini = scratch_end)
{
    struct host h;
    struct vkmoe_context *first, *second;
    struct vkmoe_data *data = text();
    host_begin(&h);
    host_open(&h, h.needs->required, false);
    struct vkmoe_vulkan_desc desc = host_desc(&h, h.needs->required, false);
    cr_assert_eq(vkmoe_context_adopt(&desc, &first), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkmoe_context_adopt(&desc, &second), VKMOE_OK, "%s", seen.last);
    const float a = loss_after(first, data, 3), b = loss_after(second, data, 3);
    cr_expect_eq(a, b);
    struct vkmoe_trainer *t;
    struct vkmoe_trainer_desc narrow = {.model = model, .train = train, .data = data};
    narrow.train.precision = VKMOE_F16;
    cr_expect_neq(vkmoe_trainer_create(first, &narrow, &t), VKMOE_OK, "16-bit arrays were not enabled");
    vkmoe_context_destroy(first);
    cr_expect_eq(loss_after(second, data, 3), a);
    vkmoe_context_destroy(second);
    vkmoe_data_close(data);
    host_end(&h);
}

struct job {
    struct host *host;
    struct vkmoe_data *data;
    float loss;
};

static void *job_run(void *user)
{
    struct job *j = user;
    struct vkmoe_context *ctx;
    const struct vkmoe_vulkan_desc desc = host_desc(j->host, j->host->needs->liked, true);
    cr_assert_eq(vkmoe_context_adopt(&desc, &ctx), VKMOE_OK, "%s", seen.last);
    j->loss = loss_after(ctx, j->data, 5);
    vkmoe_context_destroy(ctx);
    return NULL;
}

/* Two threads, each with a context and a data set of its own, on one queue. */
Test(adopt, serves_two_threads, .init = scratch_begin, .fini = scratch_end)
{
    struct host h;
    pthread_t thread;
    host_begin(&h);
    host_open(&h, h.needs->liked, true);
    struct job jobs[2] = {{.host = &h, .data = text()}, {.host = &h, .data = text()}};
    cr_assert_eq(pthread_create(&thread, NULL, job_run, &jobs[0]), 0);
    job_run(&jobs[1]);
    pthread_join(thread, NULL);
    cr_expect_eq(jobs[0].loss, jobs[1].loss);
    for (int i = 0; i < 2; i++)
        vkmoe_data_close(jobs[i].data);
    host_end(&h);
}

/* Single structures of features are read like those of a Vulkan version. */
Test(adopt, reads_any_chain)
{
    struct host h;
    struct vkmoe_context *ctx;
    host_begin(&h);
    VkPhysicalDeviceMaintenance4Features maintenance = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_FEATURES,
                                                        .maintenance4 = VK_TRUE};
    VkPhysicalDeviceSynchronization2Features sync = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SYNCHRONIZATION_2_FEATURES,
                                                     .pNext = &maintenance, .synchronization2 = VK_TRUE};
    VkPhysicalDeviceTimelineSemaphoreFeatures timeline = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES, .pNext = &sync, .timelineSemaphore = VK_TRUE};
    VkPhysicalDeviceScalarBlockLayoutFeatures scalar = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SCALAR_BLOCK_LAYOUT_FEATURES, .pNext = &timeline, .scalarBlockLayout = VK_TRUE};
    VkPhysicalDeviceBufferDeviceAddressFeatures address = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_BUFFER_DEVICE_ADDRESS_FEATURES, .pNext = &scalar, .bufferDeviceAddress = VK_TRUE};
    VkPhysicalDeviceFeatures2 chain = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &address};
    host_open(&h, &chain, false);
    struct vkmoe_vulkan_desc desc = host_desc(&h, &chain, false);
    cr_expect_eq(vkmoe_context_adopt(&desc, &ctx), VKMOE_OK, "%s", seen.last);
    vkmoe_context_destroy(ctx);
    sync.synchronization2 = VK_FALSE;
    cr_expect_eq(vkmoe_context_adopt(&desc, &ctx), VKMOE_ERROR_ARGUMENT);
    cr_expect(!ctx && strstr(seen.last, "synchronization2"), "%s", seen.last);
    host_end(&h);
}

/* Where sizes vary and the host lets none be required, kernels can count on the smallest alone. */
Test(adopt, counts_on_the_smallest_subgroup)
{
    const struct vkm_caps whole = {.storage16 = true, .float16 = true, .subgroup = 16, .subgroup_least = 8, .subgroup_sure = 8,
                                   .subgroup_required = true, .full_subgroups = true, .cm[TYPE_F16] = {.m = 8, .n = 8, .k = 16}};
    struct vkm_caps caps = whole;
    struct vkm_features features;
    vkm_features_set(&features, &whole);
    vkm_features_limit(&features, &caps);
    cr_expect(caps.subgroup == 16 && caps.subgroup_least == 8 && caps.subgroup_required && caps.full_subgroups);
    features.v13.subgroupSizeControl = VK_FALSE;
    vkm_features_limit(&features, &caps);
    cr_expect(caps.subgroup == 8 && caps.subgroup_least == 8 && !caps.subgroup_required && !caps.full_subgroups);
    cr_expect_eq(caps.cm[TYPE_F16].m, 0, "matrices belong to subgroups of a known size");
}

Test(adopt, refuses_what_is_missing)
{
    struct host h;
    struct vkmoe_context *ctx;
    struct vkmoe_vulkan_needs *needs;
    host_begin(&h);
    host_open(&h, h.needs->required, false);
    const struct vkmoe_vulkan_desc good = host_desc(&h, h.needs->required, false);
#define REFUSED(change, what)                                                                                            \
    do {                                                                                                                 \
        struct vkmoe_vulkan_desc bad = good;                                                                             \
        const unsigned before = seen.errors;                                                                             \
        change;                                                                                                          \
        cr_expect_eq(vkmoe_context_adopt(&bad, &ctx), VKMOE_ERROR_ARGUMENT, what);                                       \
        cr_expect(!ctx && seen.errors == before + 1 && strstr(seen.last, what), "%s: %s", what, seen.last);              \
    } while (0)
    REFUSED(bad.get_instance_proc_addr = NULL, "get_instance_proc_addr");
    REFUSED(bad.instance = NULL, "instance");
    REFUSED(bad.physical_device = NULL, "physical_device");
    REFUSED(bad.device = NULL, "device");
    REFUSED(bad.queue = NULL, "queue");
    REFUSED(bad.features = NULL, "features");
    REFUSED(bad.queue_family = 31, "queue_family");
    REFUSED(bad.queue_lock = NULL, "queue_lock");
    REFUSED(bad.queue_unlock = NULL, "queue_unlock");
    REFUSED(bad.extension_count = 1, "extensions");
    const VkPhysicalDeviceFeatures2 none = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2};
    REFUSED(bad.features = &none, "bufferDeviceAddress");
#undef REFUSED
    cr_expect_eq(vkmoe_vulkan_needs_query(test_log, NULL, h.vk.instance, h.physical, &needs), VKMOE_ERROR_ARGUMENT);
    cr_expect(!needs);
    host_end(&h);
}
