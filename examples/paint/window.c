#include "window.h"

#include <stdio.h>
#include <stdlib.h>

#ifndef PAINT_SDL

bool window_open(uint32_t width, uint32_t height, struct window **out)
{
    (void)width, (void)height, (void)out;
    fprintf(
        stderr,
        "paint: it was built without SDL2 and has no window: give --frames N and --out DIR for pictures in files\n");
    return false;
}

const char *const *window_extensions(const struct window *window, uint32_t *count)
{
    (void)window;
    *count = 0;
    return NULL;
}

VkSurfaceKHR window_surface(struct window *window, VkInstance instance)
{
    (void)window, (void)instance;
    return VK_NULL_HANDLE;
}

void window_stop(struct window *window, struct gpu *gpu)
{
    (void)window, (void)gpu;
}

void window_close(struct window *window, VkInstance instance)
{
    (void)window, (void)instance;
}

char window_key(struct window *window)
{
    (void)window;
    return 'q';
}

void window_title(struct window *window, const char *title)
{
    (void)window, (void)title;
}

bool window_record(struct window *window, struct gpu *gpu, const struct buffer *rgba, uint32_t width, uint32_t height)
{
    (void)window, (void)gpu, (void)rgba, (void)width, (void)height;
    return false;
}

bool window_present(struct window *window, struct gpu *gpu)
{
    (void)window, (void)gpu;
    return false;
}

#else

#include <SDL.h>
#include <SDL_vulkan.h>

enum { MOST_IMAGES = 16 };

struct window {
    SDL_Window *sdl;
    VkSurfaceKHR surface;
    const char *extensions[15];
    uint32_t extension_count;
    VkSwapchainKHR swapchain; /* null: none yet, or the window has no pixels */
    VkExtent2D extent;
    VkImage images[MOST_IMAGES];
    VkSemaphore drawn[MOST_IMAGES];
    uint32_t image_count, image;
    VkSemaphore acquired;
    bool has_image;  /* one is acquired and recorded */
    VkImage picture; /* the frame's pixels, to be scaled to the window's */
    VkDeviceMemory memory;
};

bool window_open(uint32_t width, uint32_t height, struct window **out)
{
    const int scale = width < 400 ? 4 : width < 800 ? 2 : 1;
    struct window *window = calloc(1, sizeof *window);
    unsigned count = 15;
    if (window && !SDL_Init(SDL_INIT_VIDEO))
        window->sdl = SDL_CreateWindow("paint", SDL_WINDOWPOS_CENTERED, SDL_WINDOWPOS_CENTERED, (int)width * scale,
                                       (int)height * scale, SDL_WINDOW_VULKAN | SDL_WINDOW_RESIZABLE);
    if (!window || !window->sdl || !SDL_Vulkan_GetInstanceExtensions(window->sdl, &count, window->extensions)) {
        fprintf(stderr, "paint: no window (%s): give --frames N and --out DIR for pictures in files\n", SDL_GetError());
        window_close(window, VK_NULL_HANDLE);
        return false;
    }
    window->extension_count = count;
    *out = window;
    return true;
}

const char *const *window_extensions(const struct window *window, uint32_t *count)
{
    *count = window->extension_count;
    return window->extensions;
}

VkSurfaceKHR window_surface(struct window *window, VkInstance instance)
{
    if (!SDL_Vulkan_CreateSurface(window->sdl, instance, &window->surface))
        fprintf(stderr, "paint: no surface for the window: %s\n", SDL_GetError());
    return window->surface;
}

static void destroy_swapchain(struct window *window, struct gpu *gpu)
{
    for (uint32_t i = 0; i < window->image_count; i++)
        vkDestroySemaphore(gpu->device, window->drawn[i], NULL);
    vkDestroySemaphore(gpu->device, window->acquired, NULL);
    vkDestroySwapchainKHR(gpu->device, window->swapchain, NULL);
    window->image_count = 0;
    window->acquired = VK_NULL_HANDLE;
    window->swapchain = VK_NULL_HANDLE;
}

/* The first format whose numbers are shown as they are; else whatever the first one is. */
static bool choose_format(struct window *window, struct gpu *gpu, VkSurfaceFormatKHR *out)
{
    VkSurfaceFormatKHR formats[64];
    uint32_t count = 64;
    if (!gpu_check(vkGetPhysicalDeviceSurfaceFormatsKHR(gpu->physical, window->surface, &count, formats),
                   "vkGetPhysicalDeviceSurfaceFormatsKHR"))
        return false;
    *out = formats[0];
    for (uint32_t i = count; i-- > 0;)
        if (formats[i].format == VK_FORMAT_B8G8R8A8_UNORM || formats[i].format == VK_FORMAT_R8G8B8A8_UNORM)
            *out = formats[i];
    return true;
}

static bool create_swapchain(struct window *window, struct gpu *gpu)
{
    const VkSemaphoreCreateInfo semaphore = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO};
    VkSurfaceCapabilitiesKHR can;
    VkSurfaceFormatKHR format;
    int width, height;
    SDL_Vulkan_GetDrawableSize(window->sdl, &width, &height);
    if (!gpu_check(vkGetPhysicalDeviceSurfaceCapabilitiesKHR(gpu->physical, window->surface, &can),
                   "vkGetPhysicalDeviceSurfaceCapabilitiesKHR") ||
        !choose_format(window, gpu, &format))
        return false;
    window->extent =
        can.currentExtent.width != UINT32_MAX ? can.currentExtent : (VkExtent2D){(uint32_t)width, (uint32_t)height};
    if (!window->extent.width || !window->extent.height)
        return true;
    const VkSwapchainCreateInfoKHR info = {
        .sType = VK_STRUCTURE_TYPE_SWAPCHAIN_CREATE_INFO_KHR,
        .surface = window->surface,
        .minImageCount = can.maxImageCount == can.minImageCount ? can.minImageCount : can.minImageCount + 1,
        .imageFormat = format.format,
        .imageColorSpace = format.colorSpace,
        .imageExtent = window->extent,
        .imageArrayLayers = 1,
        .imageUsage = VK_IMAGE_USAGE_TRANSFER_DST_BIT,
        .preTransform = can.currentTransform,
        .compositeAlpha = can.supportedCompositeAlpha & VK_COMPOSITE_ALPHA_OPAQUE_BIT_KHR
                              ? VK_COMPOSITE_ALPHA_OPAQUE_BIT_KHR
                              : VK_COMPOSITE_ALPHA_INHERIT_BIT_KHR,
        .presentMode = VK_PRESENT_MODE_FIFO_KHR,
        .clipped = VK_TRUE};
    uint32_t count = MOST_IMAGES;
    if (!gpu_check(vkCreateSwapchainKHR(gpu->device, &info, NULL, &window->swapchain), "vkCreateSwapchainKHR") ||
        !gpu_check(vkGetSwapchainImagesKHR(gpu->device, window->swapchain, &count, window->images),
                   "vkGetSwapchainImagesKHR") ||
        !gpu_check(vkCreateSemaphore(gpu->device, &semaphore, NULL, &window->acquired), "vkCreateSemaphore"))
        return false;
    for (; window->image_count < count; window->image_count++)
        if (!gpu_check(vkCreateSemaphore(gpu->device, &semaphore, NULL, &window->drawn[window->image_count]),
                       "vkCreateSemaphore"))
            return false;
    return true;
}

static bool create_picture(struct window *window, struct gpu *gpu, uint32_t width, uint32_t height)
{
    const VkImageCreateInfo info = {.sType = VK_STRUCTURE_TYPE_IMAGE_CREATE_INFO,
                                    .imageType = VK_IMAGE_TYPE_2D,
                                    .format = VK_FORMAT_R8G8B8A8_UNORM,
                                    .extent = {width, height, 1},
                                    .mipLevels = 1,
                                    .arrayLayers = 1,
                                    .samples = VK_SAMPLE_COUNT_1_BIT,
                                    .usage = VK_IMAGE_USAGE_TRANSFER_SRC_BIT | VK_IMAGE_USAGE_TRANSFER_DST_BIT};
    VkMemoryAllocateInfo memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO};
    VkMemoryRequirements needs;
    if (!gpu_check(vkCreateImage(gpu->device, &info, NULL, &window->picture), "vkCreateImage"))
        return false;
    vkGetImageMemoryRequirements(gpu->device, window->picture, &needs);
    memory.allocationSize = needs.size;
    while (!(needs.memoryTypeBits >> memory.memoryTypeIndex & 1))
        memory.memoryTypeIndex++;
    return gpu_check(vkAllocateMemory(gpu->device, &memory, NULL, &window->memory), "vkAllocateMemory") &&
           gpu_check(vkBindImageMemory(gpu->device, window->picture, window->memory, 0), "vkBindImageMemory");
}

/* An image changes its layout, after and before transfers or nothing. */
static void change(struct gpu *gpu, VkImage image, VkImageLayout from, VkImageLayout to)
{
    const VkImageMemoryBarrier2 barrier = {.sType = VK_STRUCTURE_TYPE_IMAGE_MEMORY_BARRIER_2,
                                           .srcStageMask = VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT,
                                           .srcAccessMask = VK_ACCESS_2_TRANSFER_WRITE_BIT,
                                           .dstStageMask = VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT,
                                           .dstAccessMask =
                                               VK_ACCESS_2_TRANSFER_READ_BIT | VK_ACCESS_2_TRANSFER_WRITE_BIT,
                                           .oldLayout = from,
                                           .newLayout = to,
                                           .srcQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED,
                                           .dstQueueFamilyIndex = VK_QUEUE_FAMILY_IGNORED,
                                           .image = image,
                                           .subresourceRange = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 1, 0, 1}};
    const VkDependencyInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEPENDENCY_INFO, .imageMemoryBarrierCount = 1, .pImageMemoryBarriers = &barrier};
    vkCmdPipelineBarrier2(gpu->commands, &info);
}

static void record_blit(struct window *window, struct gpu *gpu, const struct buffer *rgba, uint32_t width,
                        uint32_t height)
{
    const VkImageSubresourceLayers colour = {VK_IMAGE_ASPECT_COLOR_BIT, 0, 0, 1};
    const VkBufferImageCopy copy = {.imageSubresource = colour, .imageExtent = {width, height, 1}};
    const VkImageBlit blit = {
        .srcSubresource = colour,
        .dstSubresource = colour,
        .srcOffsets = {{0, 0, 0}, {(int32_t)width, (int32_t)height, 1}},
        .dstOffsets = {{0, 0, 0}, {(int32_t)window->extent.width, (int32_t)window->extent.height, 1}}};
    const VkImage image = window->images[window->image];
    change(gpu, window->picture, VK_IMAGE_LAYOUT_UNDEFINED, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL);
    vkCmdCopyBufferToImage(gpu->commands, rgba->buffer, window->picture, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, 1,
                           &copy);
    change(gpu, window->picture, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL);
    change(gpu, image, VK_IMAGE_LAYOUT_UNDEFINED, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL);
    vkCmdBlitImage(gpu->commands, window->picture, VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL, image,
                   VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, 1, &blit, VK_FILTER_NEAREST);
    change(gpu, image, VK_IMAGE_LAYOUT_TRANSFER_DST_OPTIMAL, VK_IMAGE_LAYOUT_PRESENT_SRC_KHR);
}

bool window_record(struct window *window, struct gpu *gpu, const struct buffer *rgba, uint32_t width, uint32_t height)
{
    if (!window->picture && !create_picture(window, gpu, width, height))
        return false;
    if (!window->swapchain && !create_swapchain(window, gpu))
        return false;
    if (!window->swapchain)
        return true;
    const VkResult result = vkAcquireNextImageKHR(gpu->device, window->swapchain, UINT64_MAX, window->acquired,
                                                  VK_NULL_HANDLE, &window->image);
    window->has_image = result == VK_SUCCESS || result == VK_SUBOPTIMAL_KHR;
    if (window->has_image)
        record_blit(window, gpu, rgba, width, height);
    else if (result == VK_ERROR_OUT_OF_DATE_KHR)
        destroy_swapchain(window, gpu);
    else
        return gpu_check(result, "vkAcquireNextImageKHR");
    return true;
}

bool window_present(struct window *window, struct gpu *gpu)
{
    const VkSemaphore drawn = window->drawn[window->image];
    const VkPresentInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PRESENT_INFO_KHR,
                                   .waitSemaphoreCount = 1,
                                   .pWaitSemaphores = &drawn,
                                   .swapchainCount = 1,
                                   .pSwapchains = &window->swapchain,
                                   .pImageIndices = &window->image};
    if (!window->has_image)
        return gpu_submit(gpu, VK_NULL_HANDLE, VK_NULL_HANDLE);
    window->has_image = false;
    if (!gpu_submit(gpu, window->acquired, drawn))
        return false;
    const VkResult result = vkQueuePresentKHR(gpu->queue, &info);
    if (result != VK_SUBOPTIMAL_KHR && result != VK_ERROR_OUT_OF_DATE_KHR)
        return gpu_check(result, "vkQueuePresentKHR");
    vkQueueWaitIdle(gpu->queue);
    destroy_swapchain(window, gpu);
    return true;
}

char window_key(struct window *window)
{
    SDL_Event event;
    char key = 0;
    (void)window;
    while (SDL_PollEvent(&event)) {
        const SDL_Keycode code = event.type == SDL_KEYDOWN ? event.key.keysym.sym : 0;
        if (event.type == SDL_QUIT || code == SDLK_ESCAPE)
            return 'q';
        if (code >= SDLK_1 && code <= SDLK_3)
            key = (char)('1' + (code - SDLK_1));
    }
    return key;
}

void window_title(struct window *window, const char *title)
{
    SDL_SetWindowTitle(window->sdl, title);
}

void window_stop(struct window *window, struct gpu *gpu)
{
    if (!window || !gpu->device)
        return;
    vkQueueWaitIdle(gpu->queue);
    destroy_swapchain(window, gpu);
    vkDestroyImage(gpu->device, window->picture, NULL);
    vkFreeMemory(gpu->device, window->memory, NULL);
}

void window_close(struct window *window, VkInstance instance)
{
    if (!window)
        return;
    if (window->surface)
        vkDestroySurfaceKHR(instance, window->surface, NULL);
    if (window->sdl)
        SDL_DestroyWindow(window->sdl);
    SDL_Quit();
    free(window);
}

#endif
