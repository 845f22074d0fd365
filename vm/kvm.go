package vm

import (
	"bytes"
	"os"
)

// KVM opens /dev/kvm where this host can run a guest in hardware, else says why
// not. It is a promise of speed only: a guest under KVM still needs a deadline
// for its boot.
//
// That /dev/kvm opens and even runs a few instructions proves nothing: a host
// that is a guest itself, of a hypervisor without nesting, offers one that
// interprets, and dies of the first instruction that it does not know. So the
// processor's own flag decides.
func KVM() (device *os.File, why string) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, err.Error()
	}
	if !hasVirtualisation(info) {
		return nil, "the processor shows neither vmx nor svm"
	}
	device, err = os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return nil, err.Error() + "; is the kvm module loaded, and are you in the group kvm?"
	}
	return device, ""
}

func hasVirtualisation(cpuinfo []byte) bool {
	for line := range bytes.Lines(cpuinfo) {
		if name, flags, ok := bytes.Cut(line, []byte(":")); ok && string(bytes.TrimSpace(name)) == "flags" {
			for f := range bytes.FieldsSeq(flags) {
				if s := string(f); s == "vmx" || s == "svm" {
					return true
				}
			}
		}
	}
	return false
}
