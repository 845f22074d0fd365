package launcher_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sandboxd/spawn/launcher"
	"sandboxd/spawn/plan"
	"sandboxd/spawn/spawntest"
)

// What no supervisor says ends the launcher, and with it everything below it.
func TestMalformedRequests(t *testing.T) {
	const run, spawn, reexec = 1, 2, 3
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	many := slices.Repeat([]int{int(null.Fd())}, 25)
	for name, c := range map[string]struct {
		message []byte
		fds     []int
	}{
		"empty":                         {message: []byte{}},
		"one byte":                      {message: []byte{1}},
		"half a head":                   {message: launcher.Head(run, 0, 0, 0, 0, 0)[:24]},
		"all but a byte of a head":      {message: launcher.Head(run, 0, 0, 0, 0, 0)[:47]},
		"a body less than said":         {message: append(launcher.Head(run, 16, 0, 0, 0, 0), make([]byte, 8)...)},
		"a body more than said":         {message: append(launcher.Head(run, 8, 0, 0, 0, 0), make([]byte, 16)...)},
		"sizes that wrap around 32 bit": {message: append(launcher.Head(spawn, 1<<31, 1<<31, 0, 8, 0), make([]byte, 8)...)},
		"the largest sizes":             {message: launcher.Head(spawn, ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), 0)},
		"larger than any request":       {message: append(launcher.Head(run, 131080, 0, 0, 0, 0), make([]byte, 131080)...)},
		"operation 0":                   {message: launcher.Head(0, 0, 0, 0, 0, 0)},
		"an unknown operation":          {message: launcher.Head(99, 0, 0, 0, 0, 0)},
		"25 descriptors":                {message: launcher.Head(run, 0, 0, 0, 0, 25), fds: many},
		"25 descriptors, none said":     {message: launcher.Head(run, 0, 0, 0, 0, 0), fds: many},
		"descriptors said beyond slots": {message: launcher.Head(run, 0, 0, 0, 0, ^uint32(0))},
	} {
		t.Run(name, func(t *testing.T) {
			l := watched(t)
			c0 := spawned(t, l, parked(spawntest.Dir(t)))
			if err := l.Raw(c.message, c.fds...); err != nil {
				t.Fatal(err)
			}
			ended(t, l, []*launcher.Child{c0})
		})
	}
	t.Run("exec of itself forgets no one", func(t *testing.T) { // the one odd request that is allowed
		l := watched(t)
		if err := l.Raw(launcher.Head(reexec, 0, 0, 0, 0, 0)); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Run([]plan.Step{step(plan.Chdir, nil, "/no/such")}); !errors.Is(err, unix.ENOENT) {
			t.Error(err)
		}
	})
}

// Said and sent descriptors that differ must not confuse which are whose.
func TestDescriptorsMiscounted(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for name, c := range map[string]struct {
		said uint32
		sent int
	}{"more said": {5, 0}, "more sent": {0, 5}, "one said": {1, 2}, "all said": {24, 23}} {
		t.Run(name, func(t *testing.T) {
			l := watched(t)
			if err := l.Raw(launcher.Head(1, 0, 0, 0, 0, c.said), slices.Repeat([]int{int(null.Fd())}, c.sent)...); err != nil {
				t.Fatal(err)
			}
			// It may end or go on, but not half of each.
			if _, err := l.Run(nil); errors.Is(err, launcher.ErrLost) {
				done(t, l)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// raw encodes one step without any check.
func raw(kind uint16, nums, strs byte, size uint32, body ...byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, kind)
	b = append(b, nums, strs)
	return append(binary.LittleEndian.AppendUint32(b, size), body...)
}

func str(claimed uint32, bytes ...byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, claimed), bytes...)
}

// The interpreter refuses what is malformed, names the place, and goes on to serve.
func TestMalformedPlans(t *testing.T) {
	l := watched(t)
	end := uint16(0)
	for plan.Kind(end+1).String() != fmt.Sprintf("step-%d", end+1) {
		end++
	}
	hostname, umask := uint16(plan.Hostname), uint16(plan.Umask)
	zeros := make([]byte, 64)
	for name, c := range map[string]struct {
		section []byte
		errno   unix.Errno
	}{
		"half a head":                {[]byte{1, 0, 0, 0}, unix.EBADMSG},
		"kind 0":                     {raw(0, 0, 0, 8), unix.ENOSYS},
		"kind after the last":        {raw(end+1, 0, 0, 8), unix.ENOSYS},
		"kind 65535":                 {raw(65535, 0, 0, 8), unix.ENOSYS},
		"size 0":                     {raw(umask, 1, 0, 0, zeros[:8]...), unix.EBADMSG},
		"size of half a head":        {raw(umask, 1, 0, 4, zeros[:8]...), unix.EBADMSG},
		"size not a multiple":        {raw(umask, 1, 0, 17, zeros[:16]...), unix.EBADMSG},
		"size beyond the section":    {raw(umask, 1, 0, 24, zeros[:8]...), unix.EBADMSG},
		"the largest size":           {raw(umask, 1, 0, 0xfffffff8, zeros[:8]...), unix.EBADMSG},
		"a number too few":           {raw(umask, 0, 0, 8), unix.EBADMSG},
		"a number too many":          {raw(umask, 2, 0, 24, zeros[:16]...), unix.EBADMSG},
		"255 numbers":                {raw(umask, 255, 0, 16, zeros[:8]...), unix.EBADMSG},
		"a string too many":          {raw(umask, 1, 1, 24, zeros[:16]...), unix.EBADMSG},
		"16 strings for one number":  {raw(umask, 0, 16, 16, zeros[:8]...), unix.EBADMSG},
		"numbers beyond the step":    {raw(umask, 1, 0, 8), unix.EBADMSG},
		"no room for a string":       {raw(hostname, 0, 1, 8), unix.EBADMSG},
		"a string beyond the step":   {raw(hostname, 0, 1, 16, str(4, 'a', 'b', 'c', 'd')...), unix.EBADMSG},
		"a string beyond everything": {raw(hostname, 0, 1, 16, str(0xffffffff, 'a', 'b', 'c', 0)...), unix.EBADMSG},
		"a string without its NUL":   {raw(hostname, 0, 1, 16, str(3, 'a', 'b', 'c', 'd')...), unix.EBADMSG},
		"a string that ends late":    {raw(hostname, 0, 1, 16, str(2, 'a', 'b', 'c', 0)...), unix.EBADMSG},
		"huge numbers":               {raw(uint16(plan.Setns), 2, 0, 24, bytes.Repeat([]byte{255}, 16)...), unix.EBADF},
		"a huge slot":                {raw(uint16(plan.Pivot), 1, 0, 16, bytes.Repeat([]byte{255}, 8)...), unix.EBADF},
		"a slot to fill beyond all":  {openFile(64), unix.EBADF},
		"a huge slot to fill":        {openFile(^uint64(0)), unix.EBADF},
		"an empty slot to attach":    {one(plan.Attach, []uint64{plan.Cwd, 9, 0}, "/"), unix.EBADF},
		"half of a filter's step":    {one(plan.Seccomp, []uint64{0}, "\x06\x00\x00\x00\x00\x00\xff\x7f\x06"), unix.EINVAL},
	} {
		fail, err := l.RunBytes(c.section)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if fail == nil || fail.Errno != c.errno || fail.Index != 0 || fail.Section != "setup" {
			t.Errorf("%s: got %v, want %v", name, fail, c.errno)
		}
		// After a good step, the place is the second.
		good, err := plan.Append(nil, []plan.Step{step(plan.Umask, []uint64{0o22})})
		if err != nil {
			t.Fatal(err)
		}
		if fail, err = l.RunBytes(append(good, c.section...)); err != nil || fail == nil || fail.Index != 1 {
			t.Errorf("%s, as second step: got %v, %v", name, fail, err)
		}
	}
	// A child's plans are read in the same way.
	c := spawned(t, l, parked(spawntest.Dir(t)))
	_ = unix.PidfdSendSignal(c.Pidfd, unix.SIGKILL, nil, 0)
	if _, err := exit(t, c); err != nil {
		t.Error(err)
	}
	release(t, c)
}

func one(k plan.Kind, nums []uint64, strs ...string) []byte {
	b, err := plan.Append(nil, []plan.Step{step(k, nums, strs...)})
	if err != nil {
		panic(err)
	}
	return b
}

func openFile(slot uint64) []byte {
	return one(plan.OpenFile, []uint64{slot, unix.O_RDONLY}, "/dev/null")
}

// harmless are steps that do nothing to the host, to us or to the launcher,
// whatever their operands are.
var harmless = []plan.Kind{plan.Umask, plan.Undumpable, plan.Subreaper, plan.Hostname, plan.Chdir, plan.Affinity}

// safe says that the init, reading b as it does, comes to no step but harmless ones.
func safe(b []byte) bool {
	for len(b) >= 8 {
		kind, size := plan.Kind(binary.LittleEndian.Uint16(b)), binary.LittleEndian.Uint32(b[4:])
		known := kind != 0 && kind.String() != fmt.Sprintf("step-%d", kind)
		if known && !slices.Contains(harmless, kind) {
			return false
		}
		if size < 8 || size%8 != 0 || int64(size) > int64(len(b)) {
			return true
		}
		b = b[size:]
	}
	return true
}

// FuzzPlan sends sections to a real launcher: it executes or refuses them, and
// lives on. The first byte picks where a section of harmless steps is changed.
func FuzzPlan(f *testing.F) {
	section, err := plan.Append(nil, []plan.Step{
		step(plan.Umask, []uint64{0o22}), step(plan.Hostname, nil, "fuzz"), step(plan.Chdir, nil, "/"), step(plan.Undumpable, nil),
		step(plan.Affinity, nil, "\xff\xff\xff\xff\xff\xff\xff\xff"), step(plan.Subreaper, nil),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(section)
	for i := range section {
		mutant := bytes.Clone(section)
		mutant[i] ^= 0xff
		f.Add(mutant)
	}
	for i := 0; i < len(section); i += 3 {
		f.Add(section[:i])
	}
	l := start(f, options())
	f.Fuzz(func(t *testing.T, b []byte) {
		if !safe(b) || len(b) > 100000 {
			return
		}
		answered := make(chan error, 1)
		go func() {
			fail, err := l.RunBytes(b)
			if fail != nil && (fail.Errno == 0 || fail.Errno > 4095 || fail.Section != "setup") {
				err = fmt.Errorf("an answer that cannot be: section %s, step %v, index %d: %w", fail.Section, fail.Step, fail.Index, fail)
			}
			answered <- err
		}()
		select {
		case err := <-answered:
			if err != nil {
				t.Fatalf("% x: %v", b, err)
			}
		case <-time.After(deadline):
			t.Fatalf("% x: no answer", b)
		}
	})
}

func TestFuzzIsHarmless(t *testing.T) {
	exec, err := plan.Append(nil, []plan.Step{step(plan.Umask, []uint64{0}), step(plan.Unshare, []uint64{0})})
	if err != nil {
		t.Fatal(err)
	}
	if safe(exec) || !safe(exec[:16]) || !safe(exec[:20]) || safe(openFile(0)) {
		t.Error("the filter of the fuzz target does not see what is behind a harmless step")
	}
	spawntest.Watch(t)
}
