#include "launcher/launch/job.h"
#include "tests/support/check_main.h"

#include <string.h>

static shoal_cluster cluster;
static shoal_cluster_launch settings;
static shoal_log quiet;

/* Hosts fish1.. with these numbers of ranks; 0 ends. */
static void make(shoal_launch_job *job, const int32_t *n_rank, const char *const *argument)
{
    int32_t n_host = 0, n = 0;
    for (; n_rank[n_host] > 0; n_host++)
        n += n_rank[n_host];
    ck_assert_int_eq(shoal_cluster_open(&cluster, n_host, n, &quiet), SHOAL_OK);
    n = 0;
    for (int32_t h = 0; h < n_host; h++) {
        snprintf(cluster.host[h].name, sizeof cluster.host[h].name, "fish%d", (int)h + 1);
        for (int32_t i = 0; i < n_rank[h]; i++)
            cluster.rank[n++] = (shoal_cluster_rank){.host = h, .gpu = -1};
    }
    settings = (shoal_cluster_launch){0};
    ck_assert_int_eq(shoal_launch_job_open(job, &cluster, 0, (char *const *)argument, &quiet),
                     SHOAL_OK);
    job->settings = &settings;
    job->binary = "/opt/shoal";
}

static void end(shoal_launch_job *job)
{
    shoal_launch_job_close(job);
    shoal_cluster_close(&cluster);
}

/* The line as it is printed. */
static void print_line(char text[2048], const shoal_launch_job *job)
{
    shoal_words line;
    ck_assert_int_eq(shoal_launch_line(&line, job, &quiet), SHOAL_OK);
    FILE *out = fmemopen(text, 2048, "w");
    shoal_words_print(out, line.word, line.n);
    fclose(out);
    ck_assert_ptr_null(line.word[line.n]);
    shoal_words_close(&line);
}

static void print_script(char text[16384], const shoal_launch_job *job)
{
    FILE *out = fmemopen(text, 16384, "w");
    ck_assert_int_eq(shoal_launch_script(out, job, 7, &quiet), SHOAL_OK);
    fclose(out);
}

static const char *const batch[] = {"batch", "m", "--input", "it's", "--output=out", NULL};

START_TEST(the_line_has_hosts_settings_and_what_runs)
{
    shoal_launch_job job;
    make(&job, (const int32_t[]){2, 1, 0}, batch);
    char text[2048];
    print_line(text, &job);
    ck_assert_str_eq(
        text, "mpirun --host fish1:2,fish2:1 -np 3 --map-by slot --bind-to none --mca pml ob1 "
              "--mca btl self,vader,tcp --mca oob_tcp_keepalive_time 3 "
              "--mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 3 "
              "/opt/shoal batch m --input 'it'\\''s' --output=out --device cpu");
    end(&job);
}
END_TEST

START_TEST(the_files_settings_are_in_the_line)
{
    shoal_launch_job job;
    make(&job, (const int32_t[]){1, 1, 0}, batch);
    settings = (shoal_cluster_launch){
        .interface = "10.0.0.0/24",
        .rsh_agent = "ssh -p 22",
        .environment = (const char *const[]){"A=1", "B=two words"},
        .n_environment = 2,
        .mpirun_option = (const char *const[]){"--oversubscribe"},
        .n_mpirun_option = 1,
    };
    job.as_root = true;
    snprintf(job.host[1].address, sizeof job.host[1].address, "10.0.0.2");
    char text[2048];
    print_line(text, &job);
    const char *const wanted[] = {
        "mpirun --allow-run-as-root --host fish1:1,10.0.0.2:1 -np 2 ",
        " --mca btl_tcp_if_include 10.0.0.0/24 --mca oob_tcp_if_include 10.0.0.0/24 ",
        " --mca plm_rsh_agent 'ssh -p 22' -x A=1 -x 'B=two words' --oversubscribe /opt/shoal "};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        ck_assert_msg(strstr(text, wanted[i]) != NULL, "%s\nis not in\n%s", wanted[i], text);
    end(&job);
}
END_TEST

START_TEST(a_dropped_host_is_in_neither)
{
    shoal_launch_job job;
    make(&job, (const int32_t[]){2, 1, 3, 0}, batch);
    ck_assert_int_eq(shoal_launch_job_host_of(&job, 1), 0);
    ck_assert_int_eq(shoal_launch_job_host_of(&job, 2), 1);
    ck_assert_int_eq(shoal_launch_job_host_of(&job, 6), -1);
    job.host[1].dropped = true;
    ck_assert_int_eq(shoal_launch_job_n_rank(&job), 5);
    ck_assert_int_eq(shoal_launch_job_n_host(&job), 2);
    ck_assert_int_eq(shoal_launch_job_host_of(&job, 2), 2);
    char text[16384];
    print_line(text, &job);
    ck_assert_ptr_nonnull(strstr(text, "--host fish1:2,fish3:3 -np 5 "));
    print_script(text, &job);
    ck_assert_ptr_nonnull(strstr(text, "#SBATCH --nodelist=fish1,fish3\n"));
    end(&job);
}
END_TEST

START_TEST(hosts_have_names_with_and_without_a_domain)
{
    shoal_launch_job job;
    make(&job, (const int32_t[]){1, 1, 0}, batch);
    snprintf(job.host[1].address, sizeof job.host[1].address, "10.0.0.1");
    ck_assert_int_eq(shoal_launch_job_host_named(&job, "fish2.lan"), 1);
    ck_assert_int_eq(shoal_launch_job_host_named(&job, "10.0.0.1"), 1);
    ck_assert_int_eq(shoal_launch_job_host_named(&job, "10.0.0.12"), -1);
    ck_assert_int_eq(shoal_launch_job_host_named(&job, "fish12"), -1);
    ck_assert_int_eq(shoal_launch_job_host_named(&job, ""), -1);
    end(&job);
}
END_TEST

START_TEST(another_run_resumes_without_the_fault)
{
    shoal_launch_job job;
    const char *const argument[] = {
        "batch", "m", "--fault", "rank=1,step=2,do=kill", "--placement=p.yaml", "--fault=x", NULL};
    make(&job, (const int32_t[]){1, 1, 0}, argument);
    ck_assert_str_eq(shoal_launch_job_option(&job, "placement"), "p.yaml");
    ck_assert(!shoal_launch_job_again(&job, false));
    char text[2048];
    print_line(text, &job);
    ck_assert_ptr_nonnull(strstr(text, "/opt/shoal batch m --placement=p.yaml --resume"));
    ck_assert(shoal_launch_job_again(&job, true));
    ck_assert(!shoal_launch_job_again(&job, true));
    print_line(text, &job);
    ck_assert_ptr_nonnull(
        strstr(text, "/opt/shoal batch m --resume --placement weighted --device cpu"));
    ck_assert_ptr_eq(strstr(text, " cpu"), text + strlen(text) - strlen(" cpu"));
    end(&job);
}
END_TEST

START_TEST(another_run_of_something_else_begins_anew)
{
    shoal_launch_job job;
    const char *const argument[] = {"perplexity", "m", "--placement", "weighted",
                                    "--probe",    "p", NULL};
    make(&job, (const int32_t[]){1, 1, 0}, argument);
    ck_assert(!shoal_launch_job_again(&job, false));
    ck_assert(shoal_launch_job_again(&job, true));
    char text[2048];
    print_line(text, &job);
    ck_assert_ptr_nonnull(strstr(text, "/opt/shoal perplexity m --placement weighted"));
    ck_assert_ptr_null(strstr(text, "--probe"));
    ck_assert_ptr_null(strstr(text, "--resume"));
    end(&job);
}
END_TEST

START_TEST(ranks_that_cannot_be_started_are_refused)
{
    shoal_launch_job job;
    make(&job, (const int32_t[]){1, 2, 0}, batch);
    shoal_launch_job other;
    ck_assert_int_eq(shoal_launch_job_open(&other, &cluster, 4, (char *const *)batch, &quiet),
                     SHOAL_USAGE);
    ck_assert_int_eq(shoal_launch_job_open(&other, &cluster, 2, (char *const *)batch, &quiet),
                     SHOAL_OK);
    ck_assert_int_eq(shoal_launch_job_n_rank(&other), 2);
    shoal_launch_job_close(&other);
    cluster.rank[2].host = 0; /* behind one of another host */
    ck_assert_int_eq(shoal_launch_job_open(&other, &cluster, 0, (char *const *)batch, &quiet),
                     SHOAL_USAGE);
    end(&job);
}
END_TEST

/* The line for `shoal batch m` or another command, with these GPUs (-1: none) of three ranks on two
 * hosts. */
static void print_devices(char text[2048], const int32_t gpu[3], const char *const *argument,
                          bool drop_first)
{
    shoal_launch_job job, job_gpu;
    make(&job, (const int32_t[]){2, 1, 0}, argument);
    for (int32_t r = 0; r < 3; r++)
        cluster.rank[r].gpu = gpu[r];
    ck_assert_int_eq(shoal_launch_job_open(&job_gpu, &cluster, 0, (char *const *)argument, &quiet),
                     SHOAL_OK);
    job_gpu.settings = &settings;
    job_gpu.binary = "/opt/shoal";
    job_gpu.host[0].dropped = drop_first;
    print_line(text, &job_gpu);
    shoal_launch_job_close(&job_gpu);
    end(&job);
}

START_TEST(ranks_get_the_devices_of_the_file)
{
    static const char *const plain[] = {"batch", "m", NULL};
    static const char *const given[] = {"batch", "m", "--device", "cuda:1", NULL};
    static const char *const stage[] = {"stage", "m", "--to", "d", NULL};
    char text[2048];
    print_devices(text, (const int32_t[]){0, -1, 0}, plain, false);
    ck_assert_ptr_nonnull(strstr(text, "/opt/shoal batch m --device cuda,cpu,cuda"));
    print_devices(text, (const int32_t[]){0, -1, 0}, plain, true);
    ck_assert_ptr_nonnull(strstr(text, "/opt/shoal batch m --device cuda"));
    ck_assert_ptr_null(strstr(text, ",cpu"));
    print_devices(text, (const int32_t[]){0, 1, 0}, plain, false);
    ck_assert_ptr_nonnull(strstr(text, "/opt/shoal batch m --device cuda"));
    ck_assert_ptr_null(strstr(text, "cuda,"));
    print_devices(text, (const int32_t[]){0, -1, 0}, given, false);
    ck_assert_ptr_nonnull(strstr(text, "/opt/shoal batch m --device cuda:1"));
    ck_assert_ptr_null(strstr(text, "cuda,"));
    print_devices(text, (const int32_t[]){0, -1, 0}, stage, false);
    ck_assert_ptr_null(strstr(text, "--device"));
}
END_TEST

/* SLURM's nodes may be more than the file's hosts: they are like the last. */
START_TEST(a_script_has_a_device_for_each_rank)
{
    shoal_launch_job job;
    make(&job, (const int32_t[]){2, 2, 0}, batch);
    job.host[0].is_gpu[0] = job.host[1].is_gpu[0] = true;
    char text[16384];
    print_script(text, &job);
    ck_assert_ptr_nonnull(strstr(text, " --output=out --device cuda,cpu,cuda,cpu)\n"));
    settings.slurm.n_node = 3;
    print_script(text, &job);
    ck_assert_ptr_nonnull(strstr(text, " --device cuda,cpu,cuda,cpu,cuda,cpu)\n"));
    end(&job);
}
END_TEST

START_TEST(equal_hosts_are_any_nodes_of_slurm)
{
    shoal_launch_job job;
    make(&job, (const int32_t[]){2, 2, 0}, batch);
    settings = (shoal_cluster_launch){.interface = "eth1",
                                      .environment = (const char *const[]){"A=it's"},
                                      .n_environment = 1,
                                      .slurm = {.partition = "night",
                                                .time = "01:00:00",
                                                .account = "me",
                                                .n_node = 3,
                                                .option = (const char *const[]){"--exclusive"},
                                                .n_option = 1}};
    char text[16384];
    print_script(text, &job);
    const char *const wanted[] = {
        "#!/usr/bin/env bash\n",
        "\n#SBATCH --nodes=3\n#SBATCH --ntasks-per-node=2\n",
        "\n#SBATCH --partition=night\n",
        "\n#SBATCH --time=01:00:00\n",
        "\n#SBATCH --account=me\n",
        "\n#SBATCH --exclusive\n",
        "\n#SBATCH --requeue\n",
        "\n#SBATCH --signal=B:USR1@60\n",
        "\nexport OMPI_MCA_btl_tcp_if_include=eth1\n",
        "\nexport 'A=it'\\''s'\n",
        "\nshoal=/opt/shoal\n",
        "\nrun=(batch m --input 'it'\\''s' --output=out --device cpu)\nrestarts=7\n",
        "\n# ---- Nothing below needs a change.\n",
        "scontrol requeue"};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        ck_assert_msg(strstr(text, wanted[i]) != NULL, "%s\nis not in\n%s", wanted[i], text);
    ck_assert_ptr_null(strstr(text, "hosts_file=$(mktemp)"));
    end(&job);
}
END_TEST

START_TEST(unequal_hosts_are_named_rank_by_rank)
{
    shoal_launch_job job;
    make(&job, (const int32_t[]){1, 2, 0}, batch);
    char text[16384];
    print_script(text, &job);
    ck_assert_ptr_nonnull(strstr(text, "#SBATCH --nodes=2\n#SBATCH --ntasks=3\n"
                                       "#SBATCH --nodelist=fish1,fish2\n"));
    ck_assert_ptr_nonnull(strstr(text, "printf '%s\\n' fish1 fish2 fish2 >\"$hosts_file\"\n"));
    settings.slurm.n_node = 3;
    FILE *out = fmemopen(text, sizeof text, "w");
    ck_assert_int_eq(shoal_launch_script(out, &job, 7, &quiet), SHOAL_USAGE);
    fclose(out);
    end(&job);
}
END_TEST

START_TEST(words_are_quoted_as_a_shell_reads_them)
{
    static const char *const cases[][2] = {{"plain-1.2/x:y,z=w@v+%", "plain-1.2/x:y,z=w@v+%"},
                                           {"", "''"},
                                           {"a b", "'a b'"},
                                           {"$HOME", "'$HOME'"},
                                           {"~x", "'~x'"},
                                           {"a'b", "'a'\\''b'"},
                                           {"*", "'*'"},
                                           {"a\nb", "'a\nb'"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[64];
        FILE *out = fmemopen(text, sizeof text, "w");
        shoal_word_print(out, cases[i][0]);
        fclose(out);
        ck_assert_str_eq(text, cases[i][1]);
    }
}
END_TEST

static void add_tests(Suite *suite)
{
    SHOAL_TEST(suite, the_line_has_hosts_settings_and_what_runs);
    SHOAL_TEST(suite, the_files_settings_are_in_the_line);
    SHOAL_TEST(suite, a_dropped_host_is_in_neither);
    SHOAL_TEST(suite, hosts_have_names_with_and_without_a_domain);
    SHOAL_TEST(suite, another_run_resumes_without_the_fault);
    SHOAL_TEST(suite, another_run_of_something_else_begins_anew);
    SHOAL_TEST(suite, ranks_that_cannot_be_started_are_refused);
    SHOAL_TEST(suite, ranks_get_the_devices_of_the_file);
    SHOAL_TEST(suite, a_script_has_a_device_for_each_rank);
    SHOAL_TEST(suite, equal_hosts_are_any_nodes_of_slurm);
    SHOAL_TEST(suite, unequal_hosts_are_named_rank_by_rank);
    SHOAL_TEST(suite, words_are_quoted_as_a_shell_reads_them);
}

SHOAL_TEST_MAIN("launcher.launch_line", add_tests)
