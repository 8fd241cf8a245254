// void svm_enter(std::uint64_t guest_vmcb, std::uint64_t host_vmcb, std::uint64_t* registers)
//
// Runs the guest until its next exit. VMRUN and #VMEXIT switch control registers, CS, SS, DS, ES, GDTR, IDTR, RFLAGS,
// RIP, RSP and RAX; VMLOAD and VMSAVE switch FS, GS, TR, LDTR and the system call MSRs (APM vol. 2, 15.5); the other
// general registers are switched here, from and to registers[16], by encoding. RAX and RSP (entries 0 and 4) are the
// VMCB's. Vector and debug registers stay the guest's. In and out: GIF = 0, IF = 0.
    .text
    .globl svm_enter
svm_enter:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push %rsi
    push %rdx
    mov %rdi, %rax
    mov 1*8(%rdx), %rcx
    mov 3*8(%rdx), %rbx
    mov 5*8(%rdx), %rbp
    mov 6*8(%rdx), %rsi
    mov 7*8(%rdx), %rdi
    mov 8*8(%rdx), %r8
    mov 9*8(%rdx), %r9
    mov 10*8(%rdx), %r10
    mov 11*8(%rdx), %r11
    mov 12*8(%rdx), %r12
    mov 13*8(%rdx), %r13
    mov 14*8(%rdx), %r14
    mov 15*8(%rdx), %r15
    mov 2*8(%rdx), %rdx
    vmload %rax
    vmrun %rax
    vmsave %rax
    mov 8(%rsp), %rax
    vmload %rax
    pop %rax
    mov %rcx, 1*8(%rax)
    mov %rdx, 2*8(%rax)
    mov %rbx, 3*8(%rax)
    mov %rbp, 5*8(%rax)
    mov %rsi, 6*8(%rax)
    mov %rdi, 7*8(%rax)
    mov %r8, 8*8(%rax)
    mov %r9, 9*8(%rax)
    mov %r10, 10*8(%rax)
    mov %r11, 11*8(%rax)
    mov %r12, 12*8(%rax)
    mov %r13, 13*8(%rax)
    mov %r14, 14*8(%rax)
    mov %r15, 15*8(%rax)
    pop %rsi
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .section .note.GNU-stack, "", @progbits
