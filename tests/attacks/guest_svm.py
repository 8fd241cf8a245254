"""The guest becomes a hypervisor itself: it sets EFER.SVME and a host save area; then SVM's instructions, from a program.

Of the instructions this shows only that a program ends by them: at CPL 3 each is #GP or #UD, intercepted or not.  What the
guest's kernel would do first, with or without them, is to write the two registers, which it does here.
"""

from harness import Attack

# A program of one instruction, as ELF with one header (gABI 4.1); SIGILL (4) is #UD, SIGSEGV (11) #GP.
HEADER = (r"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0\x78\0\x40\0\0\0\0\0\x40\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
          r"\x40\0\x38\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\x40\0\0\0\0\0\x80\0\0\0\0\0\0\0"
          r"\x80\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0")
ATTACK = Attack("guest", guest=rf"""
! grep -qw svm /proc/cpuinfo || {{ echo "SVM is offered"; exit 1; }}
! grep -qw skinit /proc/cpuinfo || {{ echo "SKINIT is offered"; exit 1; }}
modprobe msr 2> /dev/null
efer=$($probe rdmsr 0xc0000080) || exit 1
[ $((0x$efer & 0x500)) = $((0x500)) ] || {{ echo "control: EFER reads as $efer"; exit 1; }}
[ $((0x$efer & 0x1000)) = 0 ] || {{ echo "EFER.SVME is set: $efer"; exit 1; }}
! $probe wrmsr 0xc0000080 $((0x$efer)) 2> /dev/null && {{ echo "control: EFER is not written with what it is"; exit 1; }}
$probe wrmsr 0xc0000080 $((0x$efer | 0x1000)) 2> /dev/null && {{ echo "EFER.SVME is written"; exit 1; }}
$probe wrmsr 0xc0010117 0x100000 2> /dev/null && {{ echo "VM_HSAVE_PA is written"; exit 1; }}
for instruction in d8 da dc dd de df; do
    printf '{HEADER}\x0f\x01\x'$instruction'\x0f\x0b\0\0\0' > one
    chmod 755 one
    bash -c ./one 2> /dev/null
    status=$?
    [ $status = 132 ] || [ $status = 139 ] || {{ echo "0f 01 $instruction ended with status $status"; exit 1; }}
    signals="${{signals:-}} $status"
done
echo "EFER $efer stays; programs ended by$signals"
""")
