package codec_test

import (
	"errors"
	"fmt"
	"time"

	"sandboxd/ipc/codec"
)

type job struct {
	Name  string        `msgpack:"name"`
	Width uint8         `msgpack:"width,omitempty"`
	Every time.Duration `msgpack:"every"`
	Extra codec.Raw     `msgpack:"extra"`
}

func ExampleUnmarshal() {
	b, err := codec.Marshal(job{Name: "render", Width: 3, Every: time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	var j job
	err = codec.Unmarshal(b, &j)
	fmt.Println(j.Name, j.Width, j.Every, err)
	// Output: render 3 1s <nil>
}

func ExampleTypeError() {
	b, err := codec.Marshal(map[string][]map[string]int{"jobs": {{"width": 30}, {"width": 300}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	var batch struct {
		Jobs []job `msgpack:"jobs"`
	}
	err = codec.Unmarshal(b, &batch)
	fmt.Println(err)
	if wrong := new(codec.TypeError); errors.As(err, &wrong) {
		fmt.Println(wrong.Path)
	}
	// Output:
	// codec: .jobs[1].width: 300 does not fit uint8
	// .jobs[1].width
}

// What a Raw holds is decoded once its type is known.
func ExampleRaw() {
	type message struct {
		Verb string
		Args codec.Raw
	}
	args, err := codec.Marshal([]int{640, 480})
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := codec.Marshal(message{"resize", args})
	if err != nil {
		fmt.Println(err)
		return
	}
	var m message
	var size [2]int
	if err := codec.Unmarshal(b, &m); err != nil {
		fmt.Println(err)
		return
	}
	err = codec.Unmarshal(m.Args, &size)
	fmt.Println(m.Verb, size, err)
	// Output: resize [640 480] <nil>
}
