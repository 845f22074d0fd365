package unpack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"sandboxd/rootfs/unpack"
)

// An archive that first plants a link and then writes through it.
func ExampleTar() {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "up", Linkname: "../outside"})
	w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "up/file", Mode: 0o644})
	w.Close()

	path, err := os.MkdirTemp("", "root")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(path)
	dir, err := os.Open(path) // elsewhere: the descriptor of fsmount(2)
	if err != nil {
		log.Fatal(err)
	}
	defer dir.Close()

	stats, err := unpack.Tar(context.Background(), dir, &archive, unpack.Options{Bytes: 1 << 20})
	if entry, ok := errors.AsType[*unpack.EntryError](err); ok {
		fmt.Println(entry.Index, entry.Name, errors.Is(err, unpack.ErrParent))
	}
	fmt.Printf("%+v\n", stats)
	// Output:
	// 1 "up/file" true
	// {Entries:2 Implied:0 Bytes:10 Skipped:0}
}
