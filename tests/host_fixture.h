/* A host that makes instance and device as it likes: for tests of what runs on them. */
#ifndef VKMOE_TESTS_HOST_FIXTURE_H
#define VKMOE_TESTS_HOST_FIXTURE_H

#include <vkmoe/vulkan.h>

#include <pthread.h>

#include "gpu_fixture.h"

struct host {
    struct vkm_vk vk;           /* how this one loads Vulkan */
    VkDebugUtilsMessengerEXT messenger;
    VkPhysicalDevice physical;
    VkQueue queue;
    struct vkmoe_vulkan_needs *needs;
    bool debug_utils;
    unsigned complaints;        /* of the validation layers */
    pthread_mutex_t mutex;      /* of the queue */
    pthread_mutex_t memory;     /* of the allocator's list */
    unsigned locks;             /* how often it was taken */
    long live, allocations;     /* of the allocator */
    struct host_memory *first;  /* what it has given and not got back */
    VkAllocationCallbacks allocator;
};

/* An instance, under the validation layers where `validating`, and the first device. Skips the test without one. */
void host_begin(struct host *h);
/* The device with these features, with the extensions that vkmoe likes or none. */
void host_open(struct host *h, const VkPhysicalDeviceFeatures2 *features, bool extensions);
/* What vkmoe_context_adopt gets, with the host's lock and allocator. */
struct vkmoe_vulkan_desc host_desc(struct host *h, const VkPhysicalDeviceFeatures2 *features, bool extensions);
/* After a hang: what is left on the device goes with it, and the layers' complaints of that do not count. */
void host_forget_rest(struct host *h);
/* Expects that the device is still the host's, nothing is left on it, and no layer has complained; destroys it. */
void host_end(struct host *h);

#endif
