# The sample crawler with its plugins, and reloadctl; docker-compose.yml says how they run together.
#
# Where the Swift image cannot be had, build on the host, which must be of the same distribution as BASE:
#
#   scripts/stage .build-docker && CRAWLER_TARGET=host docker compose up --build --detach --wait

ARG SWIFT=swift:6.3-bookworm
ARG BASE=debian:bookworm-slim

FROM ${SWIFT} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends librabbitmq-dev libssl-dev libxml2-dev libyaml-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
# The dependencies in a layer of their own: they change less often than the sources.
COPY Package.swift ./
COPY Examples/crawler/Package.swift Examples/crawler/
RUN swift package resolve --package-path Examples/crawler
COPY . .
RUN scripts/stage /stage

# Serves the sample pages.
FROM ${BASE} AS site
RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*
COPY Examples/crawler/site /opt/site
RUN chmod -R a+rX /opt/site
USER nobody
ENTRYPOINT ["python3", "/opt/site/serve.py"]
CMD ["--host", "0.0.0.0", "--port", "8080"]

# Everything but what is built. The folders are there so that volumes in their place belong to the crawler's user.
FROM ${BASE} AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends librabbitmq4 libssl3 libstdc++6 libxml2 libyaml-0-2 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 990 --user-group --home-dir /var/lib/crawler --no-create-home crawler \
    && install -d -o crawler -g crawler -m 700 /var/lib/crawler /secrets/broker /secrets/agent /secrets/ops /secrets/admin \
    && echo /usr/lib/swift/linux > /etc/ld.so.conf.d/swift.conf
COPY Examples/crawler/rules /opt/crawler/rules
COPY Examples/crawler/docker /opt/crawler/bin
RUN chmod -R a+rX /opt/crawler
ENV PATH=/opt/crawler/bin:$PATH
WORKDIR /opt/crawler
CMD ["crawler", "--help"]

FROM base AS runtime
COPY --from=build /stage/lib /usr/lib/swift/linux
COPY --from=build /stage/bin bin
COPY --from=build /stage/plugins plugins
RUN ldconfig
USER 990

FROM base AS host
COPY .build-docker/lib /usr/lib/swift/linux
COPY .build-docker/bin bin
COPY .build-docker/plugins plugins
RUN ldconfig
USER 990
