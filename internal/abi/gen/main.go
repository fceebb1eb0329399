// The command gen writes the generated files of package zbuf. Run it as `go generate .` in the
// module's root.
package main

import (
	"log"
	"os"

	"github.com/zbuf-go/zbuf/internal/abi"
)

func main() {
	files, err := abi.Files()
	if err != nil {
		log.Fatal(err)
	}
	for name, src := range files {
		if err := os.WriteFile(name, src, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
