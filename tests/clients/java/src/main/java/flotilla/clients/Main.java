// Runs every check of the Kafka client against FLOTILLA_BOOTSTRAP.
package flotilla.clients;

import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.utils.AppInfoParser;

public final class Main {
  private Main() {}

  public static void main(String[] arguments) throws Exception {
    Report report = new Report("java " + AppInfoParser.getVersion());
    Map<String, Object> config =
        Map.of("bootstrap.servers", Plan.BOOTSTRAP, "default.api.timeout.ms", 20_000, "request.timeout.ms", 10_000);
    try (Admin admin = Admin.create(config);
        RoundTrip roundTrip = new RoundTrip(admin)) {
      for (String codec : Plan.CODECS) {
        report.check(codec, () -> roundTrip.run(codec, Plan.recordsPerCodec()));
      }
      report.check(new AdminChecks(admin, roundTrip).all());
      report.check(new ConfigChecks(admin, roundTrip).all());
      report.check(new ErrorChecks(roundTrip).all());
    }
    report.finish();
  }
}
