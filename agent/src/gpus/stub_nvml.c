/* Stands for NVIDIA's management library in the tests of discovery: two GPUs, and what nvml-wrapper calls to know them.
   With BROKEN it is a library whose driver is of another version, with HALF one that has lost its second GPU. */
#include <string.h>

typedef int result;
enum { SUCCESS = 0, INVALID_ARGUMENT = 2, GPU_LOST = 15, VERSION_MISMATCH = 18 };

static int numbers[2] = {0, 1};

result nvmlInit_v2(void) {
#ifdef BROKEN
  return VERSION_MISMATCH;
#else
  return SUCCESS;
#endif
}
result nvmlShutdown(void) { return SUCCESS; }
result nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return SUCCESS; }
result nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  if (index >= 2) return INVALID_ARGUMENT;
#ifdef HALF
  if (index == 1) return GPU_LOST;
#endif
  *device = &numbers[index];
  return SUCCESS;
}
result nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
  const char *name = *(int *)device == 0 ? "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
                                         : "GPU-02c7b2e0-3d4a-4f0b-9b67-5c2f6e1a7d11";
  if (strlen(name) >= length) return INVALID_ARGUMENT;
  strcpy(uuid, name);
  return SUCCESS;
}
result nvmlDeviceGetMinorNumber(void *device, unsigned *minor) {
  *minor = *(int *)device;
  return SUCCESS;
}
