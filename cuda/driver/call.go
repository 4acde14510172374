package driver

// call is one function of the driver's library.
type call int

// What this package calls. From callBeginCapture on, an old driver may lack it.
const (
	callInit call = iota
	callVersion
	callErrorString
	callDeviceCount
	callDevice
	callDeviceName
	callDeviceAttribute
	callDeviceMemory
	callDeviceBus
	callCreateContext
	callDestroyContext
	callSetContext
	callSyncContext
	callMemory
	callLoadModule
	callFunction
	callAlloc
	callFree
	callAllocHost
	callFreeHost
	callCreateStream
	callDestroyStream
	callSyncStream
	callWait
	callCreateEvent
	callDestroyEvent
	callRecord
	callSyncEvent
	callQuery
	callToDevice
	callFromDevice
	callOnDevice
	callSet32
	callLaunch
	callBeginCapture
	callEndCapture
	callInstantiate
	callLaunchGraph
	callFreeGraph
	callFreeCapture
	calls // their number
)

// names are the symbols of the calls. _v2 marks those that took 64-bit sizes or another form when CUDA 3.2 to 10.1 came.
func names() [calls]string {
	return [calls]string{
		callInit: "cuInit", callVersion: "cuDriverGetVersion", callErrorString: "cuGetErrorString",
		callDeviceCount: "cuDeviceGetCount", callDevice: "cuDeviceGet", callDeviceName: "cuDeviceGetName",
		callDeviceAttribute: "cuDeviceGetAttribute", callDeviceMemory: "cuDeviceTotalMem_v2", callDeviceBus: "cuDeviceGetPCIBusId",
		callCreateContext: "cuCtxCreate_v2", callDestroyContext: "cuCtxDestroy_v2", callSetContext: "cuCtxSetCurrent",
		callSyncContext: "cuCtxSynchronize", callMemory: "cuMemGetInfo_v2",
		callLoadModule: "cuModuleLoadDataEx", callFunction: "cuModuleGetFunction",
		callAlloc: "cuMemAlloc_v2", callFree: "cuMemFree_v2", callAllocHost: "cuMemHostAlloc", callFreeHost: "cuMemFreeHost",
		callCreateStream: "cuStreamCreate", callDestroyStream: "cuStreamDestroy_v2", callSyncStream: "cuStreamSynchronize", callWait: "cuStreamWaitEvent",
		callCreateEvent: "cuEventCreate", callDestroyEvent: "cuEventDestroy_v2", callRecord: "cuEventRecord",
		callSyncEvent: "cuEventSynchronize", callQuery: "cuEventQuery",
		callToDevice: "cuMemcpyHtoDAsync_v2", callFromDevice: "cuMemcpyDtoHAsync_v2", callOnDevice: "cuMemcpyDtoDAsync_v2", callSet32: "cuMemsetD32Async",
		callLaunch:       "cuLaunchKernel",
		callBeginCapture: "cuStreamBeginCapture_v2", callEndCapture: "cuStreamEndCapture", callInstantiate: "cuGraphInstantiateWithFlags",
		callLaunchGraph: "cuGraphLaunch", callFreeGraph: "cuGraphExecDestroy", callFreeCapture: "cuGraphDestroy",
	}
}

// Numbers of cuda.h: flags and attributes that the calls take.
const (
	contextBlockingSync  = 4 // a wait sleeps, instead of taking a core from others
	streamNonBlocking    = 1 // the default stream does not hold it up
	eventBlockingSync    = 1
	eventNoTiming        = 2
	captureRelaxed       = 2 // the goroutine that captures may change threads
	jitErrorLog          = 5
	jitErrorLogBytes     = 6
	attributeThreads     = 1
	attributeWarp        = 10
	attributeClock       = 13
	attributeProcessors  = 16
	attributeMemoryClock = 36
	attributeBus         = 37
	attributeL2          = 38
	attributeResident    = 39
	attributeMajor       = 75
	attributeMinor       = 76
	attributeSharedAll   = 81
	attributeRegisters   = 82
	attributeSharedOptIn = 97
)
