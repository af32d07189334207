// librdkafka's mock cluster in a process of its own, so that it outlives whoever is killed.
//
//     kafka_mock TOPIC PARTITIONS     prints its address; ends when its standard input does
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <cstdio>
#include <cstdlib>

int main(int count, char** arguments) {
    char why[256] = "";
    if (count != 3) return 2;
    rd_kafka_t* const host = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), why, sizeof why);
    rd_kafka_mock_cluster_t* const cluster =
        host == nullptr ? nullptr : rd_kafka_mock_cluster_new(host, 1);
    if (cluster == nullptr ||
        rd_kafka_mock_topic_create(cluster, arguments[1], std::atoi(arguments[2]), 1) !=
            RD_KAFKA_RESP_ERR_NO_ERROR) {
        std::fprintf(stderr, "no mock cluster: %s\n", why);
        return 1;
    }
    std::puts(rd_kafka_mock_cluster_bootstraps(cluster));
    std::fflush(stdout);
    while (std::getchar() != EOF) {}
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(host);
}
