// The launcher's way in from the boot loader and its ways out, to the SLB.
//
// In:  Multiboot2 Specification 2.0, section 3.5: 32-bit protected mode, paging off, EAX the magic, EBX the
//      address of the information.
// Out: AMD64 APM vol. 2, 15.27, and an imitation of it.

#define CR0_PE (1 << 0)
#define CR0_PG (1 << 31)
#define CR4_PAE (1 << 5)
#define MSR_EFER 0xc0000080
#define EFER_LME (1 << 8)
#define PAGE_PRESENT_WRITABLE 0x3
#define PAGE_LARGE 0x80
#define STACK_SIZE 0x8000
#define COM1 0x3f8

        .section .multiboot, "a"
        .balign 8
header:
        .long 0xe85250d6                // magic
        .long 0                         // i386, 32-bit protected mode
        .long header_end - header
        .long -(0xe85250d6 + (header_end - header))
        // information request: memory map
        .balign 8
        .word 1, 0
        .long 12
        .long 6
        // framebuffer wanted, any; text will do
        .balign 8
        .word 5, 1
        .long 20
        .long 0, 0, 0
        // modules page-aligned
        .balign 8
        .word 6, 0
        .long 8
        .balign 8
        .word 0, 0
        .long 8
header_end:

        .code32
        .section .text.entry, "ax"
        .global launcher_entry
launcher_entry:
        cli
        cld
        mov     $stack_end, %esp
        mov     %eax, %ebp
        mov     %ebx, %edi

        mov     $0x80000000, %eax
        cpuid
        cmp     $0x80000001, %eax
        jb      no_long_mode
        mov     $0x80000001, %eax
        cpuid
        bt      $29, %edx
        jnc     no_long_mode
        mov     %edi, %ebx

        // 4 GiB at themselves, in pages of 2 MiB: one PML4 entry, four PDPT entries, four page directories
        mov     $pdpt + PAGE_PRESENT_WRITABLE, %eax
        mov     %eax, pml4
        mov     $4, %ecx
1:      mov     %ecx, %eax
        shl     $12, %eax
        add     $page_directories - 0x1000 + PAGE_PRESENT_WRITABLE, %eax
        mov     %eax, pdpt - 8(, %ecx, 8)
        loop    1b
        mov     $2048, %ecx
2:      lea     -1(%ecx), %eax
        shl     $21, %eax
        or      $PAGE_PRESENT_WRITABLE | PAGE_LARGE, %eax
        mov     %eax, page_directories - 8(, %ecx, 8)
        loop    2b

        mov     %cr4, %eax
        or      $CR4_PAE, %eax
        mov     %eax, %cr4
        mov     $pml4, %eax
        mov     %eax, %cr3
        mov     $MSR_EFER, %ecx
        rdmsr
        or      $EFER_LME, %eax
        wrmsr
        mov     %cr0, %eax
        or      $CR0_PG, %eax
        mov     %eax, %cr0
        lgdt    gdt_pointer
        ljmp    $0x18, $entry64

no_long_mode:
        mov     $no_long_mode_text, %esi
1:      mov     $COM1 + 5, %dx
        in      %dx, %al
        test    $0x20, %al              // transmitter empty; all ones without a UART
        jz      1b
        lodsb
        test    %al, %al
        jz      2f
        mov     $COM1, %dx
        out     %al, %dx
        jmp     1b
2:      cli
        hlt
        jmp     2b

        .code64
entry64:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        mov     $stack_end, %esp
        mov     %ebp, %edi
        mov     %ebx, %esi
        call    launcher_main
        ud2

// [[noreturn]] void start_dynamic_launch(std::uint32_t slb): EFER.SVME is set.
        .global start_dynamic_launch
start_dynamic_launch:
        mov     %edi, %eax
        skinit
        ud2

// [[noreturn]] void start_without_launch(std::uint32_t slb): enters the SLB in the state that SKINIT leaves,
// but for the measurement and GIF.
        .global start_without_launch
start_without_launch:
        lea     compatibility(%rip), %rax
        push    $0x08
        push    %rax
        lretq
        .code32
compatibility:
        mov     %cr0, %eax
        and     $~CR0_PG, %eax
        mov     %eax, %cr0
        xor     %eax, %eax
        mov     %eax, %cr3
        mov     %eax, %cr4
        xor     %edx, %edx
        mov     $MSR_EFER, %ecx
        wrmsr
        mov     $0x10, %eax
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %ds
        mov     %eax, %es
        lea     0x10000(%edi), %esp
        mov     $1, %eax
        cpuid
        mov     %eax, %edx
        mov     %edi, %eax
        movzwl  %ss:(%eax), %ebx
        add     %eax, %ebx
        jmp     *%ebx

        .section .rodata
        .balign 8
gdt:
        .quad   0
        .quad   0x00cf9a000000ffff      // 0x08 32-bit code
        .quad   0x00cf92000000ffff      // 0x10 data
        .quad   0x00af9a000000ffff      // 0x18 64-bit code
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .long   gdt
no_long_mode_text:
        .asciz  "launcher: this CPU has no 64-bit mode\r\n"

        .bss
        .balign 4096
pml4:   .skip   4096
pdpt:   .skip   4096
page_directories:
        .skip   4 * 4096
stack:  .skip   STACK_SIZE
stack_end:

        .section .note.GNU-stack, "", @progbits
