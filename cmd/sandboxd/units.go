package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"sandboxd/sandbox"
)

// bytesValue reads sizes as docker does: 64m, 1g, 512k, plain bytes; -1 is unlimited.
type bytesValue struct{ v *int64 }

func (b bytesValue) String() string { return "" }

func (b bytesValue) Set(s string) error {
	n, err := parseBytes(s)
	if err == nil {
		*b.v = n
	}
	return err
}

func parseBytes(s string) (int64, error) {
	if s == "-1" || s == "unlimited" {
		return sandbox.Unlimited, nil
	}
	t := strings.ToLower(strings.TrimSpace(s))
	t = strings.TrimSuffix(strings.TrimSuffix(t, "b"), "i")
	shift := 0
	if t != "" {
		if i := strings.IndexByte("kmgt", t[len(t)-1]); i >= 0 {
			shift, t = 10*(i+1), t[:len(t)-1]
		}
	}
	n, err := strconv.ParseFloat(t, 64)
	v := n * float64(int64(1)<<shift)
	if err != nil || strings.Trim(t, "0123456789.") != "" || v < 1 || v >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is not a size; want a number of bytes such as 64m, 1g or 4096, or -1 for no limit", s)
	}
	return int64(v), nil
}

// countValue reads a positive number; -1 is unlimited.
type countValue struct{ v *int64 }

func (c countValue) String() string { return "" }

func (c countValue) Set(s string) error {
	n, err := strconv.ParseInt(s, 10, 64)
	if s == "unlimited" {
		n, err = sandbox.Unlimited, nil
	}
	if err != nil || n == 0 || n < sandbox.Unlimited {
		return fmt.Errorf("%q is not a count; want a positive number, or -1 for no limit", s)
	}
	*c.v = n
	return nil
}

// timeValue reads 5s, 1m30s, or plain seconds; -1 is unlimited.
type timeValue struct{ v *time.Duration }

func (t timeValue) String() string { return "" }

func (t timeValue) Set(s string) error {
	if s == "-1" || s == "unlimited" {
		*t.v = sandbox.Unlimited
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		var sec float64
		if sec, err = strconv.ParseFloat(s, 64); err == nil && sec < math.MaxInt64/float64(time.Second) {
			d = time.Duration(sec * float64(time.Second))
		}
	}
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a time; want 5s, 1m30s, 200ms or a number of seconds, or -1 for no limit", s)
	}
	*t.v = d
	return nil
}
