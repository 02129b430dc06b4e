/* Trains on a Vulkan device that this program owns: the instance, the device and the queue are made here, as any
 * application makes its own, and handed to vkmoe. docs/embedding.md explains each step.
 *
 *     cc own_device.c $(pkg-config --cflags --libs vkmoe vulkan) -o own_device
 *     ./own_device text.txt */
#include <vkmoe/vulkan.h>

#include <stdio.h>

static void print(void *user, enum vkmoe_log_level level, const char *line)
{
    (void)user;
    if (level <= VKMOE_LOG_WARNING)
        fprintf(stderr, "%s\n", line);
}

static const struct vkmoe_log log_to_stderr = {.fn = print};

/* A device with one queue, and on it all that vkmoe likes. An application sets its own features in the same chain. */
static VkDevice create_device(VkPhysicalDevice physical, const struct vkmoe_vulkan_needs *needs)
{
    const float priority = 1;
    const VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                           .queueFamilyIndex = needs->queue_family, .queueCount = 1,
                                           .pQueuePriorities = &priority};
    const VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .pNext = needs->liked,
                                     .queueCreateInfoCount = 1, .pQueueCreateInfos = &queue,
                                     .enabledExtensionCount = needs->extension_count,
                                     .ppEnabledExtensionNames = needs->extensions};
    VkDevice device = VK_NULL_HANDLE;
    return vkCreateDevice(physical, &info, NULL, &device) == VK_SUCCESS ? device : VK_NULL_HANDLE;
}

/* Some steps of a small model. In a frame loop, a step would be taken each frame. */
static enum vkmoe_status train(struct vkmoe_context *ctx, const char *text)
{
    struct vkmoe_trainer_desc desc = {0};
    struct vkmoe_data *data = NULL;
    struct vkmoe_trainer *trainer = NULL;
    struct vkmoe_step_report report = {0};
    vkmoe_preset("demo", &desc.model, &desc.train);
    enum vkmoe_status status = vkmoe_data_open(
        &(struct vkmoe_data_desc){.log = log_to_stderr, .train = &text, .train_count = 1}, &data);
    desc.data = data;
    if (!status)
        status = vkmoe_trainer_create(ctx, &desc, &trainer);
    for (int i = 0; i < 20 && !status; i++)
        status = vkmoe_trainer_step(trainer, &report);
    if (!status)
        status = vkmoe_trainer_finish(trainer, &report);
    if (!status)
        printf("%s: loss %.3f after %llu tokens\n", vkmoe_context_device(ctx)->name, (double)report.loss,
               (unsigned long long)report.tokens);
    vkmoe_trainer_destroy(trainer);
    vkmoe_data_close(data);
    return status;
}

int main(int argc, char **argv)
{
    const VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_3};
    const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &app};
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice device = VK_NULL_HANDLE;
    uint32_t one = 1;
    struct vkmoe_vulkan_needs *needs = NULL;
    struct vkmoe_context *ctx = NULL;
    enum vkmoe_status status = VKMOE_ERROR_VULKAN;
    if (argc != 2) {
        fprintf(stderr, "usage: own_device TEXT\n");
        return 2;
    }
    if (vkCreateInstance(&info, NULL, &instance))
        return 1;
    if (vkEnumeratePhysicalDevices(instance, &one, &physical) >= 0 && one)
        status = vkmoe_vulkan_needs_query(log_to_stderr, vkGetInstanceProcAddr, instance, physical, &needs);
    if (!status && !(device = create_device(physical, needs)))
        fprintf(stderr, "the device cannot be created\n");
    if (device) {
        struct vkmoe_vulkan_desc desc = {.log = log_to_stderr, .get_instance_proc_addr = vkGetInstanceProcAddr,
                                         .instance = instance, .physical_device = physical, .device = device,
                                         .queue_family = needs->queue_family, .features = needs->liked,
                                         .extensions = needs->extensions, .extension_count = needs->extension_count};
        vkGetDeviceQueue(device, needs->queue_family, 0, &desc.queue);
        if (!(status = vkmoe_context_adopt(&desc, &ctx)))
            status = train(ctx, argv[1]);
    }
    vkmoe_context_destroy(ctx);
    vkmoe_vulkan_needs_free(needs);
    if (device)
        vkDestroyDevice(device, NULL);
    vkDestroyInstance(instance, NULL);
    return status || !device;
}
