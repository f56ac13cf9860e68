# batch_body.inc: scripts/slurm/batch.sbatch from its mark on, as bytes of a C array.
file(READ ${SCRIPT} text)
string(FIND "${text}" "# ---- Nothing below needs a change." at)
if(at LESS 0)
    message(FATAL_ERROR "${SCRIPT}: its mark '# ---- Nothing below needs a change.' is missing")
endif()
file(READ ${SCRIPT} bytes OFFSET ${at} HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUTPUT} "${bytes}\n")
