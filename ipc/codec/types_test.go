package codec

import (
	"errors"
	"math/big"
	"net/netip"
	"time"
)

// The types that the tests encode and decode.

type (
	named     string
	bytes3    [3]byte
	digit     uint8
	tree      []tree
	forest    map[string]forest
	selfish   *selfish
	chain     struct{ Next *chain }
	signal    int
	celsius   float32
	level     int8
	holder    struct{ Inner any }
	embedded  struct{ Base string }
	Inlined   struct{ Deep int }
	composite struct {
		embedded
		Inlined
		Kept   Inlined `msgpack:"kept"`
		Sub    *composite
		Hidden int `msgpack:"-"`
		secret int
	}
	optional struct {
		A int            `msgpack:"a,omitempty"`
		B string         `msgpack:",omitempty"`
		C []int          `msgpack:"c,omitempty"`
		D map[string]int `msgpack:"d,omitempty"`
		E *int           `msgpack:"e,omitempty"`
		F time.Time      `msgpack:"f,omitempty"`
		G [2]bool        `msgpack:"g,omitempty"`
		H Raw            `msgpack:"h,omitempty"`
	}
	everything struct {
		Bool    bool
		Int     int
		Int8    int8
		Int16   int16
		Int32   int32
		Int64   int64
		Uint    uint
		Uint8   uint8
		Uint16  uint16
		Uint32  uint32
		Uint64  uint64
		Float32 float32
		Float64 float64
		String  string
		Named   named
		Bytes   []byte
		Array   [3]byte
		Ints    []int
		Strings []string
		Pair    [2]string
		Map     map[string]int
		Numbers map[int8]string
		Sizes   map[uint16][]byte
		Nested  map[string]map[string][]int
		Pointer *int
		Chain   *chain
		Time    time.Time
		Every   time.Duration
		Addr    netip.Addr
		Addrs   map[netip.Addr]bool
		Big     *big.Int
		Raw     Raw
		Jobs    []optional
	}
)

// MarshalText makes a signal a name, in two ways that say the same.
func (s signal) MarshalText() ([]byte, error) {
	switch s {
	case 9, 10:
		return []byte("KILL"), nil
	case -1:
		return nil, errors.New("no such signal")
	case -2:
		return []byte("\xff"), nil
	}
	return []byte("TERM"), nil
}

func (s *signal) UnmarshalText(b []byte) error {
	switch string(b) {
	case "KILL":
		*s = 9
	case "TERM":
		*s = 15
	default:
		return errors.New("no such signal: " + string(b))
	}
	return nil
}

// MarshalText of a level has no counterpart.
func (l *level) MarshalText() ([]byte, error) { return []byte("level"), nil }
