# Third-party libraries. Each is used behind one door (DESIGN section 3).
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(CYAML REQUIRED IMPORTED_TARGET libcyaml)
# libcyaml asks for -lyaml too. Its shared library brings that itself, and Debian's libcyaml-dev does not
# bring libyaml-dev: an -lyaml that was not found is dropped.
get_target_property(cyaml_libraries PkgConfig::CYAML INTERFACE_LINK_LIBRARIES)
list(FILTER cyaml_libraries EXCLUDE REGEX "^(-l)?yaml$")
set_target_properties(PkgConfig::CYAML PROPERTIES INTERFACE_LINK_LIBRARIES "${cyaml_libraries}")
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(HWLOC REQUIRED IMPORTED_TARGET hwloc)
pkg_check_modules(PROTOBUF_C REQUIRED IMPORTED_TARGET libprotobuf-c)
find_program(PROTOC_C protoc-c REQUIRED)
