/* A stand-in for libnvidia-ml.so.1 with two cards. -DOLD leaves out what old versions lack. */
#include <stdio.h>
#include <string.h>

typedef struct { int number; } card;
typedef struct {
	char busIdLegacy[16];
	unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
	char busId[32];
} pci;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned long long total, free, used; } memory;

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, INSUFFICIENT_SIZE = 7 };

static int started;
static card cards[] = {{0}, {1}};

#define CHECK(c) do { if (!started) return UNINITIALIZED; if ((c) != cards && (c) != cards + 1) return INVALID_ARGUMENT; } while (0)

int nvmlInit_v2(void) { started++; return SUCCESS; }
int nvmlShutdown(void) { return started-- > 0 ? SUCCESS : UNINITIALIZED; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return started ? SUCCESS : UNINITIALIZED; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, card **c) { *c = cards + i; return i < 2 ? SUCCESS : INVALID_ARGUMENT; }
int nvmlDeviceGetName(card *c, char *name, unsigned length) {
	CHECK(c);
	if (length < 96) return INSUFFICIENT_SIZE;
	if (c->number) snprintf(name, length, "NVIDIA card %d", c->number);
	else snprintf(name, length, "NVIDIA GeForce RTX 3060");
	return SUCCESS;
}
int nvmlDeviceGetPciInfo_v3(card *c, pci *p) {
	CHECK(c);
	memset(p, 0xee, sizeof *p);
	p->domain = (unsigned)c->number, p->bus = 0x2b + (unsigned)c->number, p->device = 1;
	return SUCCESS;
}
int nvmlDeviceGetUtilizationRates(card *c, utilization *u) { CHECK(c); u->gpu = 97 + (unsigned)c->number, u->memory = 60; return SUCCESS; }
int nvmlDeviceGetMemoryInfo(card *c, memory *m) { CHECK(c); m->total = 12ull << 30, m->free = 2ull << 30, m->used = 10ull << 30; return SUCCESS; }
int nvmlDeviceGetTemperature(card *c, int sensor, unsigned *t) { CHECK(c); *t = 71 + (unsigned)c->number; return sensor == 0 ? SUCCESS : INVALID_ARGUMENT; }
int nvmlDeviceGetPowerUsage(card *c, unsigned *p) { CHECK(c); *p = 168500; return SUCCESS; }
#ifndef OLD
int nvmlDeviceGetEnforcedPowerLimit(card *c, unsigned *p) { CHECK(c); *p = 170000; return SUCCESS; }
int nvmlDeviceGetCurrentClocksThrottleReasons(card *c, unsigned long long *r) { CHECK(c); *r = 0x1 | 0x4 | 0x40; return SUCCESS; }
#endif
