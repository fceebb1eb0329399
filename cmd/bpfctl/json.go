package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode"
)

// writeJSON writes a value for people and programs.
func writeJSON(w io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	return writeEscaped(w, b, err)
}

// writeJSONLine writes a value in one line.
func writeJSONLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	return writeEscaped(w, b, err)
}

// writeEscaped writes JSON and escapes the characters U+007F to U+009F. They control terminals, and
// JSON allows them unescaped. They can be in strings only.
func writeEscaped(w io.Writer, b []byte, err error) error {
	if err != nil {
		return err
	}
	if bytes.IndexFunc(b, isC1) >= 0 {
		var e []byte
		for _, r := range string(b) {
			if isC1(r) {
				e = fmt.Appendf(e, `\u%04x`, r)
			} else {
				e = append(e, string(r)...)
			}
		}
		b = e
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

func isC1(r rune) bool { return r >= 0x7f && unicode.IsControl(r) }
