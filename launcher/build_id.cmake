# Writes OUTPUT with a hash over the sources in LIST (one path a line, relative to ROOT): ranks built from
# different sources do not agree. Run by the build whenever a source changes.
file(STRINGS ${LIST} paths)
set(hashes "")
foreach(path ${paths})
    file(SHA256 ${ROOT}/${path} hash)
    string(APPEND hashes "${path} ${hash}\n")
endforeach()
string(SHA256 id "${hashes}")
string(SUBSTRING ${id} 0 16 id)
file(WRITE ${OUTPUT} "#define SHOAL_BUILD_ID \"${id}\"\n")
