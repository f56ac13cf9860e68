#include "launcher/cluster/cluster_yaml.h"

#include "runtime/base/yaml.h"

#define OPTIONAL          (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define TEXT(type, field) CYAML_FIELD_STRING_PTR(#field, OPTIONAL, type, field, 0, CYAML_UNLIMITED)
#define NEED(type, field)                                                                          \
    CYAML_FIELD_STRING_PTR(#field, CYAML_FLAG_POINTER, type, field, 0, CYAML_UNLIMITED)
#define TEXTS(type, field)                                                                         \
    CYAML_FIELD_SEQUENCE(#field, OPTIONAL, type, field, &text_schema, 0, CYAML_UNLIMITED)

static const cyaml_schema_value_t text_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED)};

static const cyaml_schema_field_t gpu_fields[] = {NEED(shoal__yaml_gpu, model),
                                                  TEXT(shoal__yaml_gpu, count),
                                                  TEXT(shoal__yaml_gpu, memory_gb),
                                                  TEXT(shoal__yaml_gpu, memory_bandwidth_gb_per_s),
                                                  TEXT(shoal__yaml_gpu, int8_top_per_s),
                                                  TEXT(shoal__yaml_gpu, half_tflop_per_s),
                                                  TEXT(shoal__yaml_gpu, f32_tflop_per_s),
                                                  TEXT(shoal__yaml_gpu, pcie_gb_per_s),
                                                  TEXT(shoal__yaml_gpu, launch_us),
                                                  TEXT(shoal__yaml_gpu, wait_us),
                                                  CYAML_FIELD_END};

static const cyaml_schema_value_t gpu_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, shoal__yaml_gpu, gpu_fields)};

static const cyaml_schema_field_t host_fields[] = {
    NEED(shoal__yaml_host, name),
    TEXT(shoal__yaml_host, address),
    TEXT(shoal__yaml_host, count),
    TEXT(shoal__yaml_host, cores),
    TEXT(shoal__yaml_host, memory_gb),
    TEXT(shoal__yaml_host, reserve_gb),
    TEXT(shoal__yaml_host, memory_bandwidth_gb_per_s),
    TEXT(shoal__yaml_host, cpu),
    TEXT(shoal__yaml_host, int8_top_per_s),
    TEXT(shoal__yaml_host, f32_tflop_per_s),
    TEXT(shoal__yaml_host, nic_gbit_per_s),
    TEXT(shoal__yaml_host, watts),
    TEXT(shoal__yaml_host, price_per_hour),
    CYAML_FIELD_SEQUENCE("gpus", OPTIONAL, shoal__yaml_host, gpus, &gpu_schema, 0, CYAML_UNLIMITED),
    TEXTS(shoal__yaml_host, ranks),
    CYAML_FIELD_END};

static const cyaml_schema_value_t host_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, shoal__yaml_host, host_fields)};

static const cyaml_schema_field_t network_fields[] = {
    TEXT(shoal__yaml_network, gbit_per_s), TEXT(shoal__yaml_network, latency_us),
    TEXT(shoal__yaml_network, overhead_us), CYAML_FIELD_END};

static const cyaml_schema_field_t slurm_fields[] = {
    TEXT(shoal__yaml_slurm, partition), TEXT(shoal__yaml_slurm, time),
    TEXT(shoal__yaml_slurm, nodes),     TEXT(shoal__yaml_slurm, account),
    TEXTS(shoal__yaml_slurm, options),  CYAML_FIELD_END};

static const cyaml_schema_field_t launch_fields[] = {
    TEXT(shoal__yaml_launch, binary),
    TEXT(shoal__yaml_launch, interface),
    TEXT(shoal__yaml_launch, rsh_agent),
    TEXTS(shoal__yaml_launch, environment),
    TEXTS(shoal__yaml_launch, mpirun_options),
    CYAML_FIELD_MAPPING_PTR("slurm", OPTIONAL, shoal__yaml_launch, slurm, slurm_fields),
    CYAML_FIELD_END};

static const cyaml_schema_field_t cluster_fields[] = {
    TEXT(shoal__yaml_cluster, name),
    CYAML_FIELD_MAPPING_PTR("network", OPTIONAL, shoal__yaml_cluster, network, network_fields),
    CYAML_FIELD_SEQUENCE("hosts", CYAML_FLAG_POINTER, shoal__yaml_cluster, hosts, &host_schema, 0,
                         CYAML_UNLIMITED),
    CYAML_FIELD_MAPPING_PTR("launch", OPTIONAL, shoal__yaml_cluster, launch, launch_fields),
    CYAML_FIELD_END};

static const cyaml_schema_value_t cluster_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, shoal__yaml_cluster, cluster_fields)};

shoal_status shoal__cluster_yaml_read(shoal__yaml_cluster **yaml, const char *path, shoal_log *log)
{
    void *data;
    SHOAL_TRY(shoal_yaml_read_file(&data, path, &cluster_schema, log));
    *yaml = data;
    return SHOAL_OK;
}

void shoal__cluster_yaml_close(shoal__yaml_cluster *yaml)
{
    shoal_yaml_close(yaml, &cluster_schema);
}
