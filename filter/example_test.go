package filter_test

import (
	"fmt"

	"github.com/zbuf-go/zbuf/filter"
)

func ExampleCompile() {
	program, err := filter.Compile("udp dst port 53", filter.Options{LinkType: filter.DLTLoop})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(filter.Disassemble(program))
	// Output:
	// (000) ld       [0]
	// (001) jeq      #0x1c            jt 2	jf 6
	// (002) ldb      [10]
	// (003) jeq      #0x11            jt 4	jf 15
	// (004) ldh      [46]
	// (005) jeq      #0x35            jt 14	jf 15
	// (006) jeq      #0x2             jt 7	jf 15
	// (007) ldb      [13]
	// (008) jeq      #0x11            jt 9	jf 15
	// (009) ldh      [10]
	// (010) jset     #0x1fff          jt 15	jf 11
	// (011) ldxb     4*([4]&0xf)
	// (012) ldh      [x + 6]
	// (013) jeq      #0x35            jt 14	jf 15
	// (014) ret      #262144
	// (015) ret      #0
}

func ExampleError() {
	_, err := filter.Compile("host 10.0.0.1 and 80,443", filter.Options{LinkType: filter.DLTEthernet})
	fmt.Println(err)
	// Output:
	// filter: the character ',' means nothing in an expression
	//   host 10.0.0.1 and 80,443
	//                       ^
	//   write: "or" between alternatives, as in "port 80 or 443"
}

func ExampleVM_Trace() {
	program, err := filter.Compile("less 100", filter.Options{LinkType: filter.DLTEthernet})
	if err != nil {
		fmt.Println(err)
		return
	}
	vm, err := filter.NewVM(program)
	if err != nil {
		fmt.Println(err)
		return
	}
	verdict, way := vm.Trace(make([]byte, 60), 60)
	for _, step := range way {
		fmt.Printf("instruction %d, A=%d\n", step.At, step.A)
	}
	fmt.Println(verdict)
	// Output:
	// instruction 0, A=60
	// instruction 1, A=60
	// instruction 2, A=60
	// 262144
}
