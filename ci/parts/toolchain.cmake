# How each kind of code is compiled.
#
#   gatehouse_library(NAME SOURCES... [LINKS...] [HOST_LINKS...])
#                                            a library of the rooms of one kind (rooms.txt): NAME for host programs and
#                                            tests; of measured and freestanding rooms also NAME_measured for the SLB,
#                                            the hypervisor and the launcher, which links the same LINKS' _measured
#   gatehouse_tool(NAME SOURCES...)          a host program
#   gatehouse_test(NAME SOURCES...)          a GoogleTest program, label `unit`; every test is its own ctest entry, but under
#                                            the sanitizers, where a program starts slowly, all together are one
#   gatehouse_test(NAME TOGETHER SOURCES...)  the same as one entry in every build: for tests that share what is slow to set
#                                            up (a TPM), or are over sooner than a program starts; what fails is named in
#                                            the output
#   gatehouse_test(NAME APART SOURCES...)    every test its own entry under the sanitizers, too: for tests of many seconds
#   gatehouse_test(NAME PLAIN SOURCES...)    one entry, label `host`, never under the sanitizers: for long runs whose code others
#                                            execute under them
#   gatehouse_test(NAME FILTER F SOURCES...)  the tests of GoogleTest's filter F alone
#
# The target all builds the product and what the tests of the labels `host` and `system` need; unit_tests what those of
# `unit` do, and nothing measured.

# Seconds. Tests wait for states, on a machine that may be busy with other things: this only ends those that never end,
# early enough that what they printed is seen within CI's time.
set(GATEHOUSE_TEST_TIMEOUT 900)
set(GATEHOUSE_SYSTEM_TEST_TIMEOUT 2400)

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

# GATEHOUSE_KIND_<directory>: the kind of its room.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/ci/rooms.txt)
file(STRINGS ${PROJECT_SOURCE_DIR}/ci/rooms.txt lines REGEX "^(measured|freestanding|host|test) ")
foreach(line IN LISTS lines)
    string(REGEX REPLACE " *#.*" "" line "${line}")
    string(REPLACE " " ";" words "${line}")
    list(POP_FRONT words kind)
    foreach(directory IN LISTS words)
        if(NOT IS_DIRECTORY ${PROJECT_SOURCE_DIR}/${directory})
            message(FATAL_ERROR "rooms.txt: ${directory} is not there")
        endif()
        set(GATEHOUSE_KIND_${directory} ${kind})
    endforeach()
endforeach()

# Sets `out` to the kind of the rooms of the sources, which must be one; sources that the build makes do not count.
function(gatehouse_kind_of out name)
    foreach(source IN LISTS ARGN)
        cmake_path(ABSOLUTE_PATH source NORMALIZE)
        cmake_path(IS_PREFIX PROJECT_BINARY_DIR ${source} made)
        if(NOT made)
            cmake_path(GET source PARENT_PATH directory)
            cmake_path(RELATIVE_PATH directory BASE_DIRECTORY ${PROJECT_SOURCE_DIR})
            if(NOT DEFINED GATEHOUSE_KIND_${directory})
                message(FATAL_ERROR "${name}: ${directory} is not a room of rooms.txt")
            endif()
            list(APPEND kinds ${GATEHOUSE_KIND_${directory}})
        endif()
    endforeach()
    list(REMOVE_DUPLICATES kinds)
    list(LENGTH kinds count)
    if(NOT count EQUAL 1)
        message(FATAL_ERROR "${name}: its sources are of rooms of ${count} kinds: ${kinds}")
    endif()
    set(${out} ${kinds} PARENT_SCOPE)
endfunction()

function(gatehouse_library name)
    cmake_parse_arguments(PARSE_ARGV 1 library "" "" "SOURCES;LINKS;HOST_LINKS")
    if(DEFINED library_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "${name}: gatehouse_library does not know ${library_UNPARSED_ARGUMENTS}")
    endif()
    gatehouse_kind_of(kind ${name} ${library_SOURCES})
    add_library(${name} STATIC ${library_SOURCES})
    target_link_libraries(${name} PUBLIC gatehouse_host ${library_LINKS} ${library_HOST_LINKS})
    if(kind STREQUAL measured OR kind STREQUAL freestanding)
        list(TRANSFORM library_LINKS REPLACE "^(gatehouse_.+)$" "\\1_measured")
        add_library(${name}_measured STATIC EXCLUDE_FROM_ALL ${library_SOURCES})
        target_link_libraries(${name}_measured PUBLIC gatehouse_measured ${library_LINKS})
    endif()
endfunction()

function(gatehouse_tool name)
    add_executable(${name} ${ARGN})
    target_link_libraries(${name} PRIVATE gatehouse_host gatehouse_host_panic)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
endfunction()

include(GoogleTest)
add_custom_target(unit_tests)
add_custom_target(host_tests ALL)
function(gatehouse_test name)
    cmake_parse_arguments(PARSE_ARGV 1 test "TOGETHER;APART;PLAIN" FILTER "")
    if(NOT DEFINED test_FILTER)
        set(test_FILTER "*")
    endif()
    add_executable(${name} EXCLUDE_FROM_ALL ${test_UNPARSED_ARGUMENTS})
    target_link_libraries(${name} PRIVATE gatehouse_host gatehouse_host_panic GTest::gmock GTest::gtest GTest::gtest_main)
    if(test_PLAIN AND GATEHOUSE_SANITIZE)
        return()
    endif()
    set(label unit)
    if(test_PLAIN)
        set(label host)
        add_dependencies(host_tests ${name})
    endif()
    if(test_TOGETHER OR test_PLAIN OR (GATEHOUSE_SANITIZE AND NOT test_APART))
        add_test(NAME ${name} COMMAND ${name} --gtest_brief=1 --gtest_filter=${test_FILTER})
        set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT ${GATEHOUSE_TEST_TIMEOUT})
    else()
        gtest_discover_tests(${name} TEST_FILTER ${test_FILTER}
            PROPERTIES LABELS unit TIMEOUT ${GATEHOUSE_TEST_TIMEOUT} DISCOVERY_TIMEOUT ${GATEHOUSE_TEST_TIMEOUT})
    endif()
    add_dependencies(unit_tests ${name})
endfunction()
