# How each kind of code is compiled.
#
#   gatehouse_library(NAME SOURCES...)       a freestanding library, built twice: NAME for host programs and tests,
#                                            NAME_measured for the SLB and the hypervisor
#   gatehouse_host_library(NAME SOURCES...)  host only
#   gatehouse_tool(NAME SOURCES...)          a host program
#   gatehouse_test(NAME SOURCES...)          a GoogleTest program; every test is its own ctest entry, label `unit`
#   gatehouse_test(NAME TOGETHER SOURCES...)  the same as one entry: for tests that share what is slow to set up (a
#                                            TPM), or are over sooner than a program starts; what fails is named in
#                                            the output
#
# The target unit_tests builds what ctest runs by the label `unit`, and nothing measured.

# Seconds. Tests wait for states, on a machine that may be busy with other things: this only ends those that never end.
set(GATEHOUSE_TEST_TIMEOUT 1800)

add_library(gatehouse_warnings INTERFACE)
target_compile_options(gatehouse_warnings INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wconversion -Wshadow -Werror>
    # GCC's -Wconversion does not include it in C++, Clang's does.
    $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wno-sign-conversion>)
target_include_directories(gatehouse_warnings INTERFACE ${PROJECT_SOURCE_DIR})

add_library(gatehouse_host INTERFACE)
target_link_libraries(gatehouse_host INTERFACE gatehouse_warnings)
if(GATEHOUSE_SANITIZE)
    # GCC's flow analysis warns of its own library (std::regex) when the sanitizers are on; the plain build keeps it.
    target_compile_options(gatehouse_host INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
        -fno-omit-frame-pointer -Wno-maybe-uninitialized)
    target_link_options(gatehouse_host INTERFACE -fsanitize=address,undefined)
endif()

# Measured code runs at the top 2 GiB of the address space, with no runtime library under it. Code outside of the
# cryptography is kept off the vector registers, which belong to the guest.
add_library(gatehouse_measured INTERFACE)
target_link_libraries(gatehouse_measured INTERFACE gatehouse_warnings)
target_compile_options(gatehouse_measured INTERFACE
    -Os -g -mcmodel=kernel -fno-pic -mno-red-zone -fcf-protection=none -fno-stack-protector -mgeneral-regs-only -mpopcnt
    -fno-asynchronous-unwind-tables -fno-strict-aliasing -ffunction-sections -fdata-sections -U_FORTIFY_SOURCE
    -fmacro-prefix-map=${PROJECT_SOURCE_DIR}/= -ffile-prefix-map=${PROJECT_SOURCE_DIR}/=
    $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-use-cxa-atexit>)

find_library(BEARSSL_LIBRARY NAMES libbearssl.a REQUIRED)

function(gatehouse_library name)
    add_library(${name} STATIC ${ARGN})
    target_link_libraries(${name} PUBLIC gatehouse_host)
    add_library(${name}_measured STATIC EXCLUDE_FROM_ALL ${ARGN})
    target_link_libraries(${name}_measured PUBLIC gatehouse_measured)
endfunction()

function(gatehouse_host_library name)
    add_library(${name} STATIC ${ARGN})
    target_link_libraries(${name} PUBLIC gatehouse_host)
endfunction()

function(gatehouse_tool name)
    add_executable(${name} ${ARGN})
    target_link_libraries(${name} PRIVATE gatehouse_host gatehouse_host_panic)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
endfunction()

include(GoogleTest)
add_custom_target(unit_tests)
function(gatehouse_test name)
    cmake_parse_arguments(PARSE_ARGV 1 test TOGETHER "" "")
    add_executable(${name} ${test_UNPARSED_ARGUMENTS})
    target_link_libraries(${name} PRIVATE gatehouse_host gatehouse_host_panic GTest::gmock GTest::gtest GTest::gtest_main)
    if(test_TOGETHER)
        add_test(NAME ${name} COMMAND ${name} --gtest_brief=1)
        set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT ${GATEHOUSE_TEST_TIMEOUT})
    else()
        gtest_discover_tests(${name}
            PROPERTIES LABELS unit TIMEOUT ${GATEHOUSE_TEST_TIMEOUT} DISCOVERY_TIMEOUT ${GATEHOUSE_TEST_TIMEOUT})
    endif()
    add_dependencies(unit_tests ${name})
endfunction()
