// The first measured instructions.
//
// State after SKINIT (AMD64 APM vol. 2, 15.27.4): 32-bit protected mode, paging off, EAX = SLB base, ESP =
// base + 64 KiB, CS and SS flat. DS, ES, the GDT and the IDT are whatever the launcher left; so are PAT,
// MTRRs and MXCSR. GIF = 0.
//
// Everything here uses memory of the SLB's 64 KiB only, which the CPU protects from devices.

#define CR0_PE (1 << 0)
#define CR0_MP (1 << 1)
#define CR0_ET (1 << 4)
#define CR0_NE (1 << 5)
#define CR0_WP (1 << 16)
#define CR0_PG (1 << 31)
#define CR4_PAE (1 << 5)
#define CR4_OSFXSR (1 << 9)
#define CR4_OSXMMEXCPT (1 << 10)
#define MSR_PAT 0x277
#define MSR_EFER 0xc0000080
#define MSR_FS_BASE 0xc0000100
#define EFER_LME (1 << 8)
#define PRESENT_WRITABLE 0x3
#define UNCACHEABLE 0x18                // PWT, PCD: PAT entry 3
#define LARGE 0x80
#define KEPT_LARGE_PAGES 6              // of 2 MiB

        .code32
        .section .text.entry, "ax"
slb_start:
        .word   slb_entry_offset        // AMD64 APM vol. 2, 15.27.2
        .word   slb_measured_size

        .global slb_entry
slb_entry:
        cli
        cld
        mov     %eax, %ebp
        // The GDT, through SS; and no IDT at all: an exception shuts the CPU down and runs no foreign code.
        lea     gdt - slb_start(%ebp), %eax
        push    %eax
        pushw   $gdt_end - gdt - 1
        lgdt    %ss:(%esp)
        movl    $0, 2(%esp)
        movw    $0, (%esp)
        lidt    %ss:(%esp)
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        lea     0x10000(%ebp), %esp
        // The kept region is 2 MiB aligned; not so: somebody else's doing.
        test    $0x1fffff, %ebp
        jnz     stop

        // Variables, page tables and stack become zero.
        lea     slb_bss_offset(%ebp), %edi
        mov     $slb_writable_size, %ecx
        xor     %eax, %eax
        rep stosb

        // PML4: entries 0 and 511 are the same PDPT. PDPT: 0-3 are the first 4 GiB at themselves, for device
        // registers, uncacheable whatever the launcher put into the MTRRs; the kept region in there, and
        // again at 510 = slb_base (launch::kSlbVirtual), is cacheable.
        lea     slb_page_tables_offset(%ebp), %ebx
        lea     0x1000 + PRESENT_WRITABLE(%ebx), %eax
        mov     %eax, 0 * 8(%ebx)
        mov     %eax, 511 * 8(%ebx)
        mov     $PRESENT_WRITABLE | UNCACHEABLE | LARGE, %eax
        xor     %ecx, %ecx
1:      mov     %eax, 0x1000(%ebx, %ecx, 8)
        add     $0x40000000, %eax
        inc     %ecx
        cmp     $4, %ecx
        jne     1b
        lea     0x3000 + PRESENT_WRITABLE(%ebx), %eax
        mov     %eax, 0x1000 + 510 * 8(%ebx)
        mov     %ebp, %edx
        shr     $30, %edx
        lea     0x2000 + PRESENT_WRITABLE(%ebx), %eax
        mov     %eax, 0x1000(%ebx, %edx, 8)
        // The kept region's GiB in pages of 2 MiB
        shl     $30, %edx
        or      $PRESENT_WRITABLE | UNCACHEABLE | LARGE, %edx
        xor     %ecx, %ecx
2:      mov     %edx, 0x2000(%ebx, %ecx, 8)
        add     $0x200000, %edx
        inc     %ecx
        cmp     $512, %ecx
        jne     2b
        // The kept region
        mov     %ebp, %edx
        shr     $21, %edx
        and     $511, %edx
        cmp     $512 - KEPT_LARGE_PAGES, %edx
        ja      stop                    // it would cross into the next GiB
        lea     PRESENT_WRITABLE | LARGE(%ebp), %eax
        xor     %ecx, %ecx
3:      mov     %eax, 0x2000(%ebx, %edx, 8)
        mov     %eax, 0x3000(%ebx, %ecx, 8)
        add     $0x200000, %eax
        inc     %edx
        inc     %ecx
        cmp     $KEPT_LARGE_PAGES, %ecx
        jne     3b

        mov     $CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT, %eax
        mov     %eax, %cr4
        mov     $MSR_PAT, %ecx          // the value after reset
        mov     $0x00070406, %eax
        mov     %eax, %edx
        wrmsr
        mov     $MSR_EFER, %ecx
        mov     $EFER_LME, %eax
        xor     %edx, %edx
        wrmsr
        mov     %ebx, %cr3
        wbinvd
        mov     $CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE, %eax
        mov     %eax, %cr0
        lea     entry64 - slb_start(%ebp), %eax
        push    $0x08
        push    %eax
        lret

stop:   cli
        hlt
        jmp     stop

        .balign 8
        // Accessed already: the CPU would set that bit, and these bytes are hashed for the event log.
gdt:    .quad   0
        .quad   0x00af9b000000ffff      // 0x08 64-bit code
        .quad   0x00cf93000000ffff      // 0x10 data
gdt_end:

        .code64
entry64:
        mov     $high, %rax
        jmp     *%rax
high:   lea     0x10000(%ebp), %esp     // where the hypervisor can use it as well
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        mov     $MSR_FS_BASE, %ecx      // where BearSSL's stack protector looks for its canary
        mov     $slb_canary, %rax
        mov     %rax, %rdx
        shr     $32, %rdx
        wrmsr
        fninit
        movl    $0x1f80, -4(%rsp)
        ldmxcsr -4(%rsp)
        mov     %ebp, %edi
        call    slb_main
        ud2

        .bss
        .balign 16
slb_canary:
        .skip   48
        .section .page_tables, "aw", @nobits
        .balign 4096
        .skip   4 * 4096

        .section .note.GNU-stack, "", @progbits
