package payload

// Addresses of the payload's parts in guest memory. The kernel starts at 2 MiB or above. Once it
// runs on its own page tables, it uses none of these parts.
const (
	headAddr  = 0x100000 // Multiboot header, trampoline, GDT, initial stack
	tableAddr = 0x101000 // PML4, PDPT, PD: a page each
	stackAddr = headAddr + 0xf00
	gdtAddr   = headAddr + 0x800
)

// smapSlots is the number of entries of the memory map that the metadata has room for. QEMU gives
// about eight. Unused entries stay zero, and the kernel ignores entries of length zero.
const smapSlots = 32

// smapEntry is the size of a packed {u64 base, u64 length, u32 type}.
const smapEntry = 20

// trampoline is the code that QEMU enters in 32-bit protected mode. Paging is off, and EBX points
// at the Multiboot information. The code copies the memory map into the metadata, turns long mode
// on and jumps to the kernel.
func trampoline(smap, entry uint64) []byte {
	var c code
	// The memory map: mmap_length at 44, mmap_addr at 48 of the information.
	c.op("mov esi, [ebx+48]", 0x8b, 0x73, 0x30)
	c.op("mov ebp, [ebx+44]", 0x8b, 0x6b, 0x2c)
	c.op("add ebp, esi", 0x01, 0xf5) // EBP: end of the map
	c.op("mov edi, smap", 0xbf).imm32(smap)
	c.op("mov edx, slots", 0xba).imm32(smapSlots)
	c.op("cld", 0xfc)
	// next:
	next := len(c.b)
	c.op("cmp esi, ebp", 0x39, 0xee)
	c.op("jae done", 0x73, 0x14)
	c.op("test edx, edx", 0x85, 0xd2)
	c.op("jz done", 0x74, 0x10)
	c.op("dec edx", 0x4a)
	c.op("lodsd", 0xad)                          // EAX: bytes that follow in this entry
	c.op("lea ebx, [esi+eax]", 0x8d, 0x1c, 0x06) // EBX: the next entry
	c.op("mov ecx, 5", 0xb9).imm32(5)            // there is no stack yet
	c.op("rep movsd", 0xf3, 0xa5)                // base, length, type: five words
	c.op("mov esi, ebx", 0x89, 0xde)
	c.op("jmp next", 0xeb, byte(next-(len(c.b)+2)))
	// done:
	c.op("mov esp, stack", 0xbc).imm32(stackAddr)
	c.op("mov eax, cr4", 0x0f, 0x20, 0xe0)
	c.op("or eax, CR4_PAE", 0x83, 0xc8, 0x20)
	c.op("mov cr4, eax", 0x0f, 0x22, 0xe0)
	c.op("mov eax, pml4", 0xb8).imm32(tableAddr)
	c.op("mov cr3, eax", 0x0f, 0x22, 0xd8)
	c.op("mov ecx, MSR_EFER", 0xb9).imm32(0xc0000080)
	c.op("rdmsr", 0x0f, 0x32)
	c.op("or eax, EFER_LME", 0x0d).imm32(0x100)
	c.op("wrmsr", 0x0f, 0x30)
	c.op("mov eax, cr0", 0x0f, 0x20, 0xc0)
	c.op("or eax, CR0_PG", 0x0d).imm32(0x80000000)
	c.op("mov cr0, eax", 0x0f, 0x22, 0xc0)
	c.op("lgdt [gdtr]", 0x0f, 0x01, 0x15).imm32(gdtAddr)
	// The far jump to a 64-bit code segment ends compatibility mode. Its target is the next byte.
	long := headAddr + headerSize + uint64(len(c.b)) + 7
	c.op("jmp 0x08:long", 0xea).imm32(long).imm16(0x08)
	// long:
	c.op("mov eax, 0x10", 0xb8).imm32(0x10)
	c.op("mov ss, eax", 0x8e, 0xd0)
	c.op("mov ds, eax", 0x8e, 0xd8)
	c.op("mov es, eax", 0x8e, 0xc0)
	c.op("mov rax, entry", 0x48, 0xb8).imm64(entry)
	c.op("jmp rax", 0xff, 0xe0)
	return c.b
}

// gdt is the pointer that lgdt reads (limit, base) and, eight bytes on, the
// table: null, 64-bit code, data.
func gdt() []byte {
	b := le.AppendUint16(nil, 3*8-1)
	b = le.AppendUint32(b, gdtAddr+8)
	b = pad(b, 8)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint64(b, 0x00209a0000000000) // present, code, readable, L
	b = le.AppendUint64(b, 0x0000920000000000) // present, data, writable
	return b
}

// pageTables map each GiB of the address space to the first GiB of memory by 2 MiB pages. There is
// one PML4 and one PDPT, each with equal entries, and one PD.
func pageTables() []byte {
	const present, writable, large = 1, 2, 0x80
	var b []byte
	for range 512 {
		b = le.AppendUint64(b, tableAddr+0x1000|present|writable)
	}
	for range 512 {
		b = le.AppendUint64(b, tableAddr+0x2000|present|writable)
	}
	for i := range uint64(512) {
		b = le.AppendUint64(b, i<<21|present|writable|large)
	}
	return b
}

// code collects machine code. The text of each instruction is for the reader of the source.
type code struct{ b []byte }

func (c *code) op(_ string, b ...byte) *code { c.b = append(c.b, b...); return c }
func (c *code) imm16(v uint16) *code         { c.b = le.AppendUint16(c.b, v); return c }
func (c *code) imm32(v uint64) *code         { c.b = le.AppendUint32(c.b, uint32(v)); return c }
func (c *code) imm64(v uint64) *code         { c.b = le.AppendUint64(c.b, v); return c }
