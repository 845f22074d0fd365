package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

func rep(s string, n int) []byte { return bytes.Repeat([]byte(s), n) }

// killers are the inputs known to take a process with an unguarded decoder
// down, or to make it allocate gigabytes.
var killers = []struct {
	name string
	in   []byte
	want error
}{
	{"array32 of 2^32-1, 8 bytes", []byte("\xdd\xff\xff\xff\xff\x01\x02\x03"), ErrLength},
	{"array32 of 134 M, 5 bytes", []byte("\xdd\x08\x00\x00\x00"), ErrLength},
	{"array16 of 65535", []byte("\xdc\xff\xff\x01"), ErrLength},
	{"map32 of 2^32-1", []byte("\xdf\xff\xff\xff\xff\xa1a\x01"), ErrLength},
	{"map32 of 2^31, doubled past 32 bits", []byte("\xdf\x80\x00\x00\x00\xa1a\x01"), ErrLength},
	{"bin32 of 4 GiB", []byte("\xc6\xff\xff\xff\xff\x01\x02\x03"), ErrLength},
	{"bin32 of 2 GiB, 5 bytes", []byte("\xc6\x80\x00\x00\x00"), ErrLength},
	{"str32 of 4 GiB", []byte("\xdb\xff\xff\xff\xff\x01"), ErrLength},
	{"array32 of 2^32-1 in a field", []byte("\x92\x01\xdd\xff\xff\xff\xff"), ErrLength},
	{"bin32 of 4 GiB in a field", []byte("\x92\xa1a\xc6\xff\xff\xff\xff"), ErrLength},
	{"100 kB of nested arrays", rep("\x91", 100<<10), ErrDepth},
	{"4 MiB of nested arrays", rep("\x91", 4<<20), ErrDepth},
	{"100 kB of nested maps", rep("\x81\xa0", 50<<10), ErrDepth},
	{"nested array in an unknown field", append([]byte("\x82\xa1a\x01\xa1z"), rep("\x91", 64<<10)...), ErrDepth},
	{"4 MiB of empty maps", append([]byte("\xdd\x00\x40\x00\x00"), rep("\x80", 4<<20)...), ErrItems},
	{"trailing bytes", []byte("\x01\x02"), ErrTrailing},
	{"ext8", []byte("\xc7\x01\x05x"), ErrExt},
	{"ext32 of 4 GiB", []byte("\xc9\xff\xff\xff\xff\x05"), ErrExt},
	{"timestamp", []byte("\xd6\xff\x00\x00\x00\x00"), ErrExt},
	{"integer key", []byte("\x81\x01\x01"), ErrKey},
	{"nil key", []byte("\x81\xc0\x01"), ErrKey},
	{"map as key", []byte("\x81\x80\x01"), ErrKey},
	{"bin as key", []byte("\x81\xc4\x01a\x01"), ErrKey},
	{"second key is no string", []byte("\x82\xa1a\x01\x02\x03"), ErrKey},
	{"key after a nested map", []byte("\x82\xa1a\x81\xa1b\x01\x02\x03"), ErrKey},
	{"reserved", []byte("\xc1"), ErrReserved},
	{"empty", nil, ErrTruncated},
	{"missing element", []byte("\x92\x01"), ErrLength},
	{"missing element of an inner array", []byte("\x92\x91\x01"), ErrTruncated},
	{"half an integer", []byte("\xcf\x00\x00"), ErrTruncated},
	{"half a length", []byte("\xdd\x00\x00"), ErrTruncated},
	{"half a string", []byte("\xa5ab"), ErrLength},
}

func TestCheckRefuses(t *testing.T) {
	for _, k := range killers {
		if err := Check(k.in, Limits{}); !errors.Is(err, k.want) {
			t.Errorf("%s: %v, want %v", k.name, err, k.want)
		}
	}
}

func TestCheckAccepts(t *testing.T) {
	for _, in := range []string{
		"00", "7f", "e0", "ff", "c0", "c2", "c3", "a0", "90", "80",
		"cc80", "cdffff", "ceffffffff", "cfffffffffffffffff", "d080", "d18000", "d280000000", "d38000000000000000",
		"ca3f800000", "cb3ff0000000000000", "a161", "d90161", "da000161", "db0000000161",
		"c400", "c40161", "c5000161", "c60000000161", "dc000101", "dd0000000101", "de0001a16101", "df00000001a16101",
		"9393919192c0c0c0c0c0c0", "82a16181a16201a1639102", "938090a0", "9281a1610192c0c0",
	} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(b, Limits{}); err != nil {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestCheckLimits(t *testing.T) {
	nested := func(n int) []byte { return append(rep("\x91", n), 0) }
	for _, c := range []struct {
		name string
		in   []byte
		lim  Limits
		want error
	}{
		{"default depth", nested(DefaultDepth), Limits{}, nil},
		{"default depth exceeded", nested(DefaultDepth + 1), Limits{}, ErrDepth},
		{"empty container at the bound", append(rep("\x91", DefaultDepth), 0x90), Limits{}, ErrDepth},
		{"own depth", nested(2), Limits{Depth: 2}, nil},
		{"own depth exceeded", nested(3), Limits{Depth: 2}, ErrDepth},
		{"largest depth", nested(MaxDepth), Limits{Depth: MaxDepth}, nil},
		{"never past the largest depth", nested(MaxDepth + 1), Limits{Depth: 1000}, ErrDepth},
		{"items", []byte("\x93\x01\x02\x03"), Limits{Items: 4}, nil},
		{"items exceeded in one array", []byte("\x93\x01\x02\x03"), Limits{Items: 3}, ErrItems},
		{"items exceeded across arrays", []byte("\x92\x91\x01\x91\x01"), Limits{Items: 4}, ErrItems},
		{"default items", append([]byte("\xdd\x00\x00\xff\xff"), rep("\xc0", 0xffff)...), Limits{}, nil},
		{"default items exceeded", append([]byte("\xdd\x00\x01\x00\x00"), rep("\xc0", 0x10000)...), Limits{}, ErrItems},
		{"negative limits accept nothing", []byte("\x01"), Limits{Items: -1}, ErrItems},
	} {
		if err := Check(c.in, c.lim); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	for _, k := range killers {
		if n := testing.AllocsPerRun(10, func() { _ = Check(k.in, Limits{}) }); n != 0 {
			t.Errorf("%s: %v allocations", k.name, n)
		}
	}
	if n := testing.AllocsPerRun(10, func() { _ = Check(small, Limits{}) }); n != 0 {
		t.Errorf("small frame: %v allocations", n)
	}
}

// small is the 81-byte frame of three fields that the figures in the comments
// and reports speak of; strings is a list of 200 short strings.
var (
	small   = append([]byte("\x83\xa2id\xcf\x00\x00\x00\x00\x00\x00\x00\x07\xa1k\x02\xa4body\xc4\x3a"), rep("x", 58)...)
	strings = append([]byte("\xdc\x00\xc8"), rep("\xa8abcdefgh", 200)...)
)

func BenchmarkCheck(b *testing.B) {
	for _, c := range []struct {
		name string
		in   []byte
	}{{"small", small}, {"strings", strings}} {
		if err := Check(c.in, Limits{}); err != nil {
			b.Fatal(c.name, err)
		}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.in)))
			for b.Loop() {
				if Check(c.in, Limits{}) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}
