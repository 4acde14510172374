/* A stand-in for libcuda.so.1 that notes how it is called. Device memory is the host's; a stream works at once.
 * The environment variable FAKE_CUDA_VERSION overrides the version that it speaks. -DSILENT tells no clocks. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char trace[1 << 16];
static size_t traced;
static int fail_code;       /* returned once by the call fail_name */
static char fail_name[64];
static uint64_t current;    /* context that is current on the thread that called last */
static int pending = 1;     /* queries to answer with CUDA_ERROR_NOT_READY */

enum { CONTEXT = 0x1001, MODULE = 0x2001, FUNCTION = 0x3001, STREAM = 0x4001, EVENT = 0x5001, GRAPH = 0x6001, EXEC = 0x7001 };

static int note(const char *name, const char *format, ...) {
	va_list list;
	va_start(list, format);
	if (traced + 512 < sizeof trace) {
		traced += (size_t)snprintf(trace + traced, 64, "%s", name);
		trace[traced++] = '(';
		traced += (size_t)vsnprintf(trace + traced, 300, format, list);
		trace[traced++] = ')';
		trace[traced++] = '\n';
		trace[traced] = 0;
	}
	va_end(list);
	if (strcmp(name, fail_name) == 0) {
		int code = fail_code;
		fail_name[0] = 0;
		return code;
	}
	return 0;
}

/* Only for the test. */
char *fake_trace(void) {
	static char told[sizeof trace];
	memcpy(told, trace, sizeof trace);
	traced = 0;
	trace[0] = 0;
	return told;
}
void fake_fail(const char *name, int code) { snprintf(fail_name, sizeof fail_name, "%s", name); fail_code = code; }

int cuInit(unsigned flags) { return note("cuInit", "%u", flags); }
int cuDriverGetVersion(int *version) {
	const char *text = getenv("FAKE_CUDA_VERSION");
	*version = text ? atoi(text) : 12040;
	return note("cuDriverGetVersion", "");
}
int cuGetErrorString(int code, const char **text) { *text = "a code of tomorrow"; return note("cuGetErrorString", "%d", code); }
int cuDeviceGetCount(int *n) { *n = 2; return note("cuDeviceGetCount", ""); }
int cuDeviceGet(int *device, int index) { *device = index + 10; return index < 2 ? note("cuDeviceGet", "%d", index) : 101; }
int cuDeviceGetName(char *name, int length, int device) {
	snprintf(name, (size_t)length, "Fake %d", device);
	return note("cuDeviceGetName", "%d, %d", length, device);
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
#ifdef SILENT
	if (attribute == 13 || attribute == 36) return 1;
#endif
	*value = attribute == 75 ? 8 : attribute == 76 ? 6 : 1000 * device + attribute;
	return note("cuDeviceGetAttribute", "%d, %d", attribute, device);
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)12 << 30; return note("cuDeviceTotalMem_v2", "%d", device); }
int cuDeviceGetPCIBusId(char *bus, int length, int device) {
	snprintf(bus, (size_t)length, "0000:%02d:00.0", device);
	return note("cuDeviceGetPCIBusId", "%d, %d", length, device);
}
int cuCtxCreate_v2(uint64_t *context, unsigned flags, int device) { *context = CONTEXT; return note("cuCtxCreate_v2", "%u, %d", flags, device); }
int cuCtxDestroy_v2(uint64_t context) { return note("cuCtxDestroy_v2", "%llx", (unsigned long long)context); }
int cuCtxSetCurrent(uint64_t context) { current = context; return 0; }
int cuCtxSynchronize(void) { return note("cuCtxSynchronize", ""); }
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
	*free_bytes = (size_t)5 << 30;
	*total = (size_t)12 << 30;
	return note("cuMemGetInfo_v2", "context %llx", (unsigned long long)current);
}
int cuModuleLoadDataEx(uint64_t *module, const char *image, unsigned n, int *options, void **values) {
	*module = MODULE;
	for (unsigned i = 0; i + 1 < n; i++)
		if (options[i] == 5 && options[i + 1] == 6 && !strstr(image, ".version"))
			snprintf(values[i], (size_t)(uintptr_t)values[i + 1], "no .version in \"%s\"", image);
	int code = note("cuModuleLoadDataEx", "\"%s\", %u", image, n);
	return code ? code : strstr(image, ".version") ? 0 : 218;
}
int cuModuleGetFunction(uint64_t *function, uint64_t module, const char *name) {
	*function = FUNCTION;
	int code = note("cuModuleGetFunction", "%llx, %s", (unsigned long long)module, name);
	return code ? code : strcmp(name, "axpy") ? 500 : 0;
}
int cuMemAlloc_v2(uint64_t *p, size_t bytes) {
	*p = (uint64_t)(uintptr_t)malloc(bytes);
	return note("cuMemAlloc_v2", "%zu", bytes);
}
int cuMemFree_v2(uint64_t p) { free((void *)(uintptr_t)p); return note("cuMemFree_v2", ""); }
int cuMemHostAlloc(void **p, size_t bytes, unsigned flags) { *p = malloc(bytes); return note("cuMemHostAlloc", "%zu, %u", bytes, flags); }
int cuMemFreeHost(void *p) { free(p); return note("cuMemFreeHost", ""); }
int cuStreamCreate(uint64_t *stream, unsigned flags) { *stream = STREAM; return note("cuStreamCreate", "%u", flags); }
int cuStreamDestroy_v2(uint64_t stream) { return note("cuStreamDestroy_v2", "%llx", (unsigned long long)stream); }
int cuStreamSynchronize(uint64_t stream) { return note("cuStreamSynchronize", "%llx", (unsigned long long)stream); }
int cuStreamWaitEvent(uint64_t stream, uint64_t event, unsigned flags) {
	return note("cuStreamWaitEvent", "%llx, %llx, %u", (unsigned long long)stream, (unsigned long long)event, flags);
}
int cuEventCreate(uint64_t *event, unsigned flags) { *event = EVENT; return note("cuEventCreate", "%u", flags); }
int cuEventDestroy_v2(uint64_t event) { return note("cuEventDestroy_v2", "%llx", (unsigned long long)event); }
int cuEventRecord(uint64_t event, uint64_t stream) {
	return note("cuEventRecord", "%llx, %llx", (unsigned long long)event, (unsigned long long)stream);
}
int cuEventSynchronize(uint64_t event) { return note("cuEventSynchronize", "%llx", (unsigned long long)event); }
int cuEventQuery(uint64_t event) {
	int code = note("cuEventQuery", "%llx", (unsigned long long)event);
	return code ? code : pending-- > 0 ? 600 : 0;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, uint64_t stream) {
	memcpy((void *)(uintptr_t)to, from, bytes);
	return note("cuMemcpyHtoDAsync_v2", "%zu, %llx", bytes, (unsigned long long)stream);
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, uint64_t stream) {
	memcpy(to, (void *)(uintptr_t)from, bytes);
	return note("cuMemcpyDtoHAsync_v2", "%zu, %llx", bytes, (unsigned long long)stream);
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, uint64_t stream) {
	memcpy((void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes);
	return note("cuMemcpyDtoDAsync_v2", "%zu, %llx", bytes, (unsigned long long)stream);
}
int cuMemsetD32Async(uint64_t to, unsigned value, size_t n, uint64_t stream) {
	for (size_t i = 0; i < n; i++) ((unsigned *)(uintptr_t)to)[i] = value;
	return note("cuMemsetD32Async", "%u, %zu, %llx", value, n, (unsigned long long)stream);
}
/* The one kernel: axpy(float *y, const float *x, float a, int n). */
int cuLaunchKernel(uint64_t function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, uint64_t stream,
                   void **params, void **extra) {
	float *y = (float *)(uintptr_t) * (uint64_t *)params[0], a = *(float *)params[2];
	const float *x = (float *)(uintptr_t) * (uint64_t *)params[1];
	int n = *(int *)params[3];
	int code = note("cuLaunchKernel", "%llx, %u %u %u, %u %u %u, %u, %llx, a=%g n=%d, %s", (unsigned long long)function, gx, gy, gz, bx, by, bz, shared,
	                (unsigned long long)stream, a, n, extra ? "extra" : "no extra");
	for (int i = 0; i < n && !code; i++) y[i] += a * x[i];
	return code;
}
#ifndef OLD
int cuStreamBeginCapture_v2(uint64_t stream, int mode) { return note("cuStreamBeginCapture_v2", "%llx, %d", (unsigned long long)stream, mode); }
int cuStreamEndCapture(uint64_t stream, uint64_t *graph) { *graph = GRAPH; return note("cuStreamEndCapture", "%llx", (unsigned long long)stream); }
int cuGraphInstantiateWithFlags(uint64_t *exec, uint64_t graph, unsigned long long flags) {
	*exec = EXEC;
	return note("cuGraphInstantiateWithFlags", "%llx, %llu", (unsigned long long)graph, flags);
}
int cuGraphLaunch(uint64_t exec, uint64_t stream) { return note("cuGraphLaunch", "%llx, %llx", (unsigned long long)exec, (unsigned long long)stream); }
int cuGraphExecDestroy(uint64_t exec) { return note("cuGraphExecDestroy", "%llx", (unsigned long long)exec); }
int cuGraphDestroy(uint64_t graph) { return note("cuGraphDestroy", "%llx", (unsigned long long)graph); }
#endif
