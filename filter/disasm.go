package filter

import (
	"fmt"
	"strings"

	"golang.org/x/net/bpf"
)

// names has the words for instruction codes. A code that is not here does not exist.
var names = map[uint16]string{
	codeRet: "ret", codeRet | retA: "ret", codeLd | modeImm: "ld", codeLdx | modeImm: "ldx",
	codeLd | sizeW | modeAbs: "ld", codeLd | sizeH | modeAbs: "ldh", codeLd | sizeB | modeAbs: "ldb",
	codeLd | sizeW | modeInd: "ld", codeLd | sizeH | modeInd: "ldh", codeLd | sizeB | modeInd: "ldb",
	codeLd | modeLen: "ld", codeLdx | modeLen: "ldx", codeLdx | sizeB | modeMsh: "ldxb",
	codeLd | modeMem: "ld", codeLdx | modeMem: "ldx", codeSt: "st", codeStx: "stx",
	codeJmp | jumpAlways: "ja", codeALU | aluNeg: "neg", codeMisc | miscTax: "tax",
	codeMisc | miscTxa: "txa",
}

func init() {
	for op, name := range map[uint16]string{
		codeJmp | jumpEqual: "jeq", codeJmp | jumpGreater: "jgt", codeJmp | jumpAtLeast: "jge",
		codeJmp | jumpBits: "jset", codeALU | aluAdd: "add", codeALU | aluSub: "sub",
		codeALU | aluMul: "mul",
		codeALU | aluDiv: "div", codeALU | aluMod: "mod", codeALU | aluAnd: "and", codeALU | aluOr: "or",
		codeALU | aluXor: "xor", codeALU | aluLsh: "lsh", codeALU | aluRsh: "rsh",
	} {
		names[op], names[op|srcX] = name, name
	}
}

func mnemonic(ins bpf.RawInstruction) string {
	if n := names[ins.Op]; n != "" {
		return n
	}
	return "unimp"
}

// operand returns an instruction's operand as tcpdump -d prints it.
func operand(at int, ins bpf.RawInstruction) string {
	k := ins.K
	switch class := ins.Op & 7; {
	case mnemonic(ins) == "unimp":
		return fmt.Sprintf("0x%x", ins.Op)
	case ins.Op == codeRet:
		return fmt.Sprintf("#%d", k)
	case class == codeRet, class == codeMisc, ins.Op == codeALU|aluNeg:
		return ""
	case class == codeSt, class == codeStx, ins.Op&0xe0 == modeMem && class < codeSt:
		return fmt.Sprintf("M[%d]", k)
	case class == codeLd || class == codeLdx:
		switch ins.Op & 0xe0 {
		case modeImm:
			return fmt.Sprintf("#0x%x", k)
		case modeAbs:
			return fmt.Sprintf("[%d]", k)
		case modeInd:
			return fmt.Sprintf("[x + %d]", k)
		case modeLen:
			return "#pktlen"
		}
		return fmt.Sprintf("4*([%d]&0xf)", k)
	case ins.Op == codeJmp|jumpAlways:
		return fmt.Sprintf("%d", at+1+int(int32(k)))
	case ins.Op&srcX != 0:
		return "x"
	case class == codeJmp, ins.Op == codeALU|aluAnd, ins.Op == codeALU|aluOr, ins.Op == codeALU|aluXor:
		return fmt.Sprintf("#0x%x", k)
	}
	return fmt.Sprintf("#%d", k)
}

// Disassemble returns a program as tcpdump -d prints it, one instruction a line.
func Disassemble(program []bpf.RawInstruction) string {
	var b strings.Builder
	for i, ins := range program {
		op := operand(i, ins)
		if ins.Op&7 == codeJmp && ins.Op != codeJmp|jumpAlways {
			fmt.Fprintf(&b, "(%03d) %-8s %-16s jt %d\tjf %d\n", i, mnemonic(ins), op, i+1+int(ins.Jt),
				i+1+int(ins.Jf))
			continue
		}
		fmt.Fprintf(&b, "(%03d) %-8s %s\n", i, mnemonic(ins), op)
	}
	return b.String()
}
