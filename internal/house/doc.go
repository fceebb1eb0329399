// Package house keeps the documents true. Its tests compare the pictures of docs/design.md with the
// code, follow every link, and compare what README.md quotes with its source.
package house
