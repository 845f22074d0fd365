package main

import "io"

func explain([]string, io.Reader, io.Writer, io.Writer) int   { return exitOurs }
func doctor([]string, io.Reader, io.Writer, io.Writer) int    { return exitOurs }
func benchmark([]string, io.Reader, io.Writer, io.Writer) int { return exitOurs }
