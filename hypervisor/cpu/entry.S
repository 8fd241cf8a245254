// How processors come into C++ code: the BSP from the SLB, the others from a SIPI; and exceptions.
// GNU assembler, AT&T syntax; System V calling convention.

// --- hypervisor.bin, its first bytes (launch/layout.hpp) --------------------------------------------------------
    .section .header, "ax"
    .quad 0x324d495659484747
    .quad image_file_size
    jmp bsp_start                           // cpu.cpp; called by the SLB, rdi = kept base (physical)

    .text
// void switch_stack(std::uint64_t stack, void (*to)(std::uint64_t), std::uint64_t argument): does not return
    .globl switch_stack
switch_stack:
    mov %rdi, %rsp
    xor %ebp, %ebp
    mov %rdx, %rdi
    call *%rsi
    ud2

// --- APs -------------------------------------------------------------------------------------------------------
// Copied to a page below 1 MiB, entered there in real mode at offset 0. ebx = that page throughout. All processors but
// the BSP come here at once, by one broadcast SIPI; each takes a number and waits in the lobby until the BSP calls it.
// Nothing of another processor's is touched before.
    .section .rodata
    .globl trampoline, trampoline_end, trampoline_data
    .code16
trampoline:
    cli
    cld
    xor %ebx, %ebx
    mov %cs, %bx
    mov %bx, %ds
    shl $4, %ebx
    lea (tramp_gdt - trampoline)(%ebx), %eax
    mov %eax, tramp_gdtr + 2 - trampoline
    lea (tramp32 - trampoline)(%ebx), %eax
    mov %eax, tramp_far32 - trampoline
    lea (tramp64 - trampoline)(%ebx), %eax
    mov %eax, tramp_far64 - trampoline
    lgdtl tramp_gdtr - trampoline
    mov $0x11, %eax                         // PE, ET; CD and NW of INIT end here
    mov %eax, %cr0
    ljmpl *(tramp_far32 - trampoline)
    .code32
tramp32:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $0x620, %eax                        // PAE, OSFXSR, OSXMMEXCPT
    mov %eax, %cr4
    mov (trampoline_data - trampoline)(%ebx), %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx                   // EFER: NXE, LME
    mov $0x900, %eax
    xor %edx, %edx
    wrmsr
    mov $0x80010033, %eax                   // PG, WP, NE, ET, MP, PE
    mov %eax, %cr0
    ljmp *(tramp_far64 - trampoline)(%ebx)
    .code64
tramp64:
    mov $1, %eax
    lock xadd %eax, (trampoline_data + 32 - trampoline)(%ebx)
1:  pause
    cmp %eax, (trampoline_data + 36 - trampoline)(%ebx)
    jne 1b
    mov (trampoline_data + 8 - trampoline)(%ebx), %rsp
    mov (trampoline_data + 16 - trampoline)(%ebx), %rdi
    mov $ap_start_stub, %rax
    jmp *%rax
    .balign 8
tramp_gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
tramp_gdtr:
    .word tramp_gdtr - tramp_gdt - 1
    .long 0
tramp_far32:
    .long 0
    .word 8
tramp_far64:
    .long 0
    .word 0x18
    .balign 8
trampoline_data:                            // Lobby in cpu.cpp; whose turn it is: none's
    .quad 0, 0, 0, 0
    .long 0, -1
trampoline_end:

    .text
// Still on the page table that start_aps() has made, in which the trampoline's page is executable; leaves it first
// of all.
ap_start_stub:
    mov (trampoline_data + 24 - trampoline)(%ebx), %rax
    mov %rax, %cr3
    xor %ebp, %ebp
    call ap_start                           // cpu.cpp; does not return
    ud2

// --- descriptor tables -----------------------------------------------------------------------------------------
// void load_descriptors(const void* gdtr, const void* idtr): code 0x08, data 0x10, TSS 0x18
    .globl load_descriptors
load_descriptors:
    lgdt (%rdi)
    lidt (%rsi)
    pop %rax
    push $0x08
    push %rax
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $0x18, %eax
    ltr %ax
    lretq

// --- exceptions ------------------------------------------------------------------------------------------------
// Stubs of 16 bytes; the frame that handle_exception sees is ExceptionFrame in exceptions.hpp.
    .balign 16
    .globl exception_stubs
exception_stubs:
    vector = 0
    .rept 32
    .balign 16
    .if !((vector == 8) | ((vector >= 10) & (vector <= 14)) | (vector == 17) | (vector == 21) | (vector >= 29) & (vector <= 30))
    push $0
    .endif
    push $vector
    jmp exception_common
    vector = vector + 1
    .endr

    .macro pop_registers
    .irp register, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
    pop %\register
    .endr
    .endm

exception_common:
    cld
    .irp register, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
    push %\register
    .endr
    mov %rsp, %rdi
    call handle_exception                   // exceptions.cpp; true: back by IRET
    test %al, %al
    jz 1f
    pop_registers
    add $16, %rsp
    iretq
    // Back to a recovery address. No IRET: it would let NMIs in again that the guest has masked. The eight bytes
    // below the interrupted stack pointer are free there.
1:  mov 17*8(%rsp), %rax                    // RIP
    mov 20*8(%rsp), %rcx                    // RSP
    sub $8, %rcx
    mov %rax, (%rcx)
    mov %rcx, 20*8(%rsp)
    pop_registers
    mov 40(%rsp), %rsp
    ret

// --- instructions that may fault -------------------------------------------------------------------------------
// bool try_read_msr(std::uint32_t msr, std::uint64_t* value), bool try_write_msr(std::uint32_t msr, std::uint64_t)
// False if the processor answers with #GP.
    .globl try_read_msr, try_write_msr, try_read_msr_at, try_write_msr_at, msr_fault
try_read_msr:
    mov %edi, %ecx
try_read_msr_at:
    rdmsr
    shl $32, %rdx
    or %rdx, %rax
    mov %rax, (%rsi)
    mov $1, %eax
    ret
try_write_msr:
    mov %edi, %ecx
    mov %esi, %eax
    mov %rsi, %rdx
    shr $32, %rdx
try_write_msr_at:
    wrmsr
    mov $1, %eax
    ret
msr_fault:
    xor %eax, %eax
    ret

// bool open_window(bool halt): sets GIF for a moment, or until something comes, so that a pending INIT turns into
// #SX (VM_CR.R_INIT = 1). True if one did. An NMI is noted by its handler; EFLAGS.IF stays 0.
    .globl open_window, window_start, window_end, window_init
open_window:
    test %edi, %edi
window_start:
    stgi
    jz 1f
    hlt
1:  nop
    nop
window_end:
    clgi
    xor %eax, %eax
    ret
window_init:                                // #SX comes here
    clgi
    mov $1, %eax
    ret

    .section .note.GNU-stack, "", @progbits
