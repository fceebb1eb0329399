// Package house keeps docs/design.md true. Its tests compare the pictures there with the code.
package house
