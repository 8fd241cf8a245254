/* Entry, exceptions, the secure loader block, the AP trampoline, the VMRUN and the ring 3 excursion of the probe. */

        .set CODE, 0x08
        .set DATA, 0x10
        .set USER_CODE, 0x1b
        .set USER_DATA, 0x23
        .set TASK, 0x28

        .section .multiboot, "a"
        .balign 4
        .long 0x1badb002, 0, -0x1badb002

        .text
        .code32
        .globl start
start:
        cli
        movl $stack_top, %esp
        pushl %ebx                      /* multiboot information */
        movl $task, %eax
        movw %ax, gdt_task + 2
        shrl $16, %eax
        movb %al, gdt_task + 4
        movb %ah, gdt_task + 7
        movl $DATA, task + 8            /* ss0 */
        call load_tables
        movw $TASK, %ax
        ltr %ax
        call probe_main
1:      hlt
        jmp 1b

/* Descriptor tables and flat segments; keeps the stack. */
load_tables:
        lgdt gdt_pointer
        lidt idt_pointer
        ljmp $CODE, $1f
1:      movw $DATA, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %fs
        movw %ax, %gs
        movw %ax, %ss
        ret

/* uint32_t guarded_call(void (*function)(void*), void* argument)
 * 0, or what exception ended the function: 0x80000000 | vector << 16 | error code. */
        .globl guarded_call
guarded_call:
        pushl %ebp
        pushl %ebx
        pushl %esi
        pushl %edi
        pushl guard
        movl %esp, guard
        pushl 28(%esp)
        call *28(%esp)
        addl $4, %esp
        xorl %eax, %eax
guard_out:
        popl guard
        popl %edi
        popl %esi
        popl %ebx
        popl %ebp
        ret

/* Exceptions end the guarded call that is in progress. Vectors with an error code have it on the stack. */
        .macro exception vector, has_code
exception_\vector:
        .if \has_code
        popl %ecx
        .else
        xorl %ecx, %ecx
        .endif
        movl $\vector, %eax
        jmp exception_common
        .endm
        exception 0, 0
        exception 1, 0
        exception 2, 0
        exception 3, 0
        exception 4, 0
        exception 5, 0
        exception 6, 0
        exception 7, 0
        exception 8, 1
        exception 9, 0
        exception 10, 1
        exception 11, 1
        exception 12, 1
        exception 13, 1
        exception 14, 1
        exception 15, 0
        exception 16, 0
        exception 17, 1
        exception 18, 0
        exception 19, 0
        exception 20, 0
        exception 21, 1
        exception 22, 0
        exception 23, 0
        exception 24, 0
        exception 25, 0
        exception 26, 0
        exception 27, 0
        exception 28, 0
        exception 29, 1
        exception 30, 1
        exception 31, 0

exception_common:
        movw $DATA, %dx
        movw %dx, %ds
        movw %dx, %es
        movw %dx, %fs
        movw %dx, %gs
        shll $16, %eax
        orl %ecx, %eax
        orl $0x80000000, %eax
        movl guard, %esp
        testl %esp, %esp
        jnz guard_out
        movl $stack_top, %esp
        pushl %eax
        call unexpected_exception

/* void ring3(uint32_t slb): SKINIT at CPL 3; comes back only by an exception. */
        .globl ring3
ring3:
        movl 4(%esp), %eax
        pushl $USER_DATA
        pushl $user_stack_top
        pushl $0x2
        pushl $USER_CODE
        pushl $1f
        movl %esp, task + 4             /* esp0: exceptions of ring 3 come in here */
        iret
1:      skinit %eax
        ud2

/* void launch(uint32_t slb): SKINIT; comes back (in guarded_call) only by an exception. */
        .globl launch
launch:
        movl 4(%esp), %eax
        movl $0x11111111, %ecx
        movl $0x22222222, %ebx
        movl $0x33333333, %esi
        movl $0x44444444, %edi
        movl $0x55555555, %ebp
        skinit %eax
        ud2

/* The secure loader image. It stores what it finds in its own block (at 0x8000), then goes to the probe. */
        .globl slb_image, slb_padding, slb_image_end
        .balign 16
slb_image:
        .word slb_entry - slb_image
        .word slb_image_end - slb_image
slb_entry:
        movl %ebx, %ss:0x8000(%eax)
        movl %ecx, %ss:0x8004(%eax)
        movl %edx, %ss:0x8008(%eax)
        movl %esi, %ss:0x800c(%eax)
        movl %edi, %ss:0x8010(%eax)
        movl %ebp, %ss:0x8014(%eax)
        movl %esp, %ss:0x8018(%eax)
        pushfl
        popl %ss:0x801c(%eax)
        movl %cs, %ebx
        movl %ebx, %ss:0x8020(%eax)
        movl %ss, %ebx
        movl %ebx, %ss:0x8024(%eax)
        movl %cr0, %ebx
        movl %ebx, %ss:0x8028(%eax)
        movl %cr4, %ebx
        movl %ebx, %ss:0x802c(%eax)
        movl %ds, %ebx
        movl %ebx, %ss:0x8030(%eax)
        movl %eax, %ss:0x8034(%eax)
        movl %eax, %ebp
        lgdt %ss:(slb_gdt_pointer - slb_image)(%ebp)
        ljmp $CODE, $launched
slb_gdt_pointer:
        .word gdt_end - gdt - 1
        .long gdt
slb_padding:
        .fill 512, 1, 0x5a
slb_image_end:

launched:
        movw $DATA, %ax
        movw %ax, %ds
        movw %ax, %ss
        movl $stack_top, %esp
        call load_tables
        movl $0, guard                  /* the call of before the launch does not come back */
        pushl %ebp
        call after_launch
1:      hlt
        jmp 1b

/* The AP starts here, copied to the page that the Startup IPI names. */
        .globl ap_trampoline, ap_trampoline_end
        .code16
ap_trampoline:
        cli
        movw %cs, %ax
        movw %ax, %ds
        lgdtl ap_gdt_pointer - ap_trampoline
        movl %cr0, %eax
        orl $1, %eax
        movl %eax, %cr0
        ljmpl $CODE, $ap_start
ap_gdt_pointer:
        .word gdt_end - gdt - 1
        .long gdt
ap_trampoline_end:
        .code32
ap_start:
        movw $DATA, %ax
        movw %ax, %ds
        movw %ax, %es
        movw %ax, %ss
        movl $ap_stack_top, %esp
        lidt idt_pointer
        call ap_main
1:      hlt
        jmp 1b

/* void run_guest(uint32_t vmcb): VMRUN until the next exit. GIF is clear before and after. */
        .globl run_guest
run_guest:
        pushl %ebp
        pushl %ebx
        pushl %esi
        pushl %edi
        clgi
        movl 20(%esp), %eax
        vmload %eax
        vmrun %eax
        vmsave %eax
        popl %edi
        popl %esi
        popl %ebx
        popl %ebp
        ret

/* void with_gif(void*): lets pending events in, once. */
        .globl with_gif
with_gif:
        stgi
        nop
        nop
        clgi
        ret

/* What the guest does: it raises an INIT for this very processor, then waits. */
        .globl guest_sends_init
guest_sends_init:
        movl $0, 0xfee00310
        movl $0x4500, 0xfee00300
1:      jmp 1b

        .data
        .balign 16
gdt:    .quad 0
        .quad 0x00cf9a000000ffff
        .quad 0x00cf92000000ffff
        .quad 0x00cffa000000ffff
        .quad 0x00cff2000000ffff
gdt_task:
        .word 103, 0                    /* the base is filled in by start */
        .byte 0, 0x89, 0, 0
gdt_end:
gdt_pointer:
        .word gdt_end - gdt - 1
        .long gdt
idt_pointer:
        .word 32 * 8 - 1
        .long idt
        .globl exception_addresses
exception_addresses:
        .long exception_0, exception_1, exception_2, exception_3, exception_4, exception_5, exception_6, exception_7
        .long exception_8, exception_9, exception_10, exception_11, exception_12, exception_13, exception_14
        .long exception_15, exception_16, exception_17, exception_18, exception_19, exception_20, exception_21
        .long exception_22, exception_23, exception_24, exception_25, exception_26, exception_27, exception_28
        .long exception_29, exception_30, exception_31

        .bss
        .balign 16
        .globl idt
idt:    .skip 32 * 8
task:   .skip 104
guard:  .skip 4
        .balign 16
        .skip 16384
stack_top:
        .skip 4096
ap_stack_top:
        .skip 4096
user_stack_top:
        .section .note.GNU-stack, "", @progbits
