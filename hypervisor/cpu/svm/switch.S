// void svm_enter(std::uint64_t guest_vmcb, std::uint64_t host_vmcb, std::uint64_t* registers)
//
// Runs the guest until its next exit. VMRUN and #VMEXIT switch control registers, CS, SS, DS, ES, GDTR, IDTR, RFLAGS,
// RIP, RSP and RAX; VMLOAD and VMSAVE switch FS, GS, TR, LDTR and the system call MSRs (APM vol. 2, 15.5); the other
// general registers are switched here, from and to registers[16], by encoding. RAX and RSP (entries 0 and 4) are the
// VMCB's. Vector and debug registers stay the guest's. In and out: GIF = 0, IF = 0.
    .macro load register, number
    mov \number*8(%rdx), %\register
    .endm
    .macro store register, number
    mov %\register, \number*8(%rax)
    .endm
    .macro each_register action             // but rax, rdx and rsp
    \action rcx, 1
    \action rbx, 3
    \action rbp, 5
    \action rsi, 6
    \action rdi, 7
    .irp number, 8, 9, 10, 11, 12, 13, 14, 15
    \action r\number, \number
    .endr
    .endm

    .text
    .globl svm_enter
svm_enter:
    .irp register, rbx, rbp, r12, r13, r14, r15, rsi, rdx
    push %\register
    .endr
    mov %rdi, %rax
    each_register load
    mov 2*8(%rdx), %rdx
    vmload %rax
    vmrun %rax
    vmsave %rax
    mov 8(%rsp), %rax
    vmload %rax
    pop %rax
    mov %rdx, 2*8(%rax)
    each_register store
    .irp register, rsi, r15, r14, r13, r12, rbp, rbx
    pop %\register
    .endr
    ret

    .section .note.GNU-stack, "", @progbits
