// Command box is what the conformance suite's programs are on the wasm backend:
// built as a WASI module, it is echo, cat, printf, env, sleep and true, by the
// name that it is called with, and so much of sh as the suite's scripts take.
//
//	GOOS=wasip1 GOARCH=wasm go build -o bin/sh ./spawn/wasm/internal/box
//
// Non-goals: being a shell. It starts no other program, as WASI has no way to.
package main

import (
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() { os.Exit(run(path.Base(os.Args[0]), os.Args[1:])) }

// run is one command.
func run(name string, args []string) int {
	switch name {
	case "true", ":", "trap", "umask":
	case "echo":
		return write(os.Stdout, strings.Join(args, " ")+"\n")
	case "cat":
		return cat(args)
	case "printf": // of one format, '%s\0' or '%s\n', for each argument
		end := "\x00"
		if strings.HasSuffix(args[0], "\n") {
			end = "\n"
		}
		return write(os.Stdout, strings.Join(append(args[1:], ""), end))
	case "env":
		return write(os.Stdout, strings.Join(append(os.Environ(), ""), "\x00"))
	case "sleep", "wait":
		time.Sleep(time.Hour)
	case "sh":
		return script(args[1], args[min(len(args), 3):])
	default:
		fmt.Fprintf(os.Stderr, "box: no command %q\n", name)
		return 127
	}
	return 0
}

func write(to io.Writer, text string) int {
	if _, err := io.WriteString(to, text); err != nil {
		return 1
	}
	return 0
}

func cat(files []string) int {
	if len(files) == 0 {
		_, _ = io.Copy(os.Stdout, os.Stdin)
		return 0
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		_, _ = os.Stdout.Write(b)
	}
	return 0
}

// script runs commands one after another. Loops are known by how they begin,
// and what is to run in the background is passed over.
func script(text string, args []string) int {
	switch {
	case strings.HasPrefix(text, "i=0; while"):
		for i, end := 0, time.Now().Add(20*time.Millisecond); time.Now().Before(end); i++ {
			_ = strconv.Itoa(i)
		}
		return 0
	case strings.HasPrefix(text, "echo $PPID; for d in /proc"):
		return processes()
	}
	status := 0
	text = strings.ReplaceAll(text, "while :; do sleep 1000; done", "wait")
	for text != "" {
		end := strings.IndexAny(text, ";&")
		if strings.Contains(text, ">&2") && end == strings.Index(text, ">&2")+1 {
			end = -1
		}
		command, background := text, false
		if text = ""; end >= 0 {
			command, text, background = command[:end], command[end+1:], command[end] == '&'
		}
		words := split(command)
		if len(words) == 0 || background {
			continue
		}
		out := os.Stdout
		if words[len(words)-1] == ">&2" {
			os.Stdout, words = os.Stderr, words[:len(words)-1]
		}
		if i := slices.Index(words, "$@"); i >= 0 {
			words = slices.Concat(words[:i], args, words[i+1:])
		}
		switch words[0] {
		case "exit":
			n, _ := strconv.Atoi(words[1])
			return n
		case "read":
			status = readLine()
		default:
			status = run(words[0], words[1:])
		}
		os.Stdout = out
	}
	return status
}

// split makes words, with quotes.
func split(s string) (words []string) {
	word, quote, in := "", rune(0), false
	for _, c := range s {
		switch {
		case quote == 0 && (c == '"' || c == '\''):
			quote, in = c, true
		case c == quote:
			quote = 0
		case quote == 0 && (c == ' ' || c == '\n'):
			if in {
				words = append(words, word)
			}
			word, in = "", false
		default:
			word += string(c)
			in = true
		}
	}
	if in {
		words = append(words, word)
	}
	return words
}

func readLine() int {
	for one := []byte{0}; one[0] != '\n'; {
		if _, err := os.Stdin.Read(one); err != nil {
			return 1
		}
	}
	return 0
}

// processes is the script that prints the parent's id and who is there.
func processes() int {
	stat, err := os.ReadFile("/proc/self/stat")
	all, err2 := os.ReadDir("/proc")
	if err != nil || err2 != nil {
		fmt.Fprintln(os.Stderr, err, err2)
		return 1
	}
	after := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
	fmt.Println(strings.Fields(after)[1])
	for _, d := range all {
		if name, err := os.ReadFile("/proc/" + d.Name() + "/comm"); err == nil && strings.Trim(d.Name(), "0123456789") == "" {
			_, _ = os.Stdout.Write(name)
		}
	}
	return 0
}
