// Runs every check of the Java client against FLOTILLA_BOOTSTRAP; a line a check, exit code 1 if one failed. A check
// named later/... uses a request that the cluster may not offer yet: it is skipped in words then.
package flotilla.clients;

import java.util.Map;
import java.util.Timer;
import java.util.TimerTask;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.utils.AppInfoParser;

public final class Main {
  private static final int TIME_LIMIT_S = 120;
  private static final String NAME = "java " + AppInfoParser.getVersion();
  private static volatile String current = "start";
  private static boolean failed;

  private Main() {}

  /** One check; gives how many things it checked. */
  interface Check {
    int run() throws Exception;
  }

  public static void main(String[] arguments) throws Exception {
    Timer deadline = new Timer(true);
    deadline.schedule(
        new TimerTask() {
          @Override
          public void run() {
            System.out.printf("FAIL %s %s: not done after %d s%n", NAME, current, TIME_LIMIT_S);
            System.out.flush();
            Runtime.getRuntime().halt(1);
          }
        },
        TIME_LIMIT_S * 1000L);
    Map<String, Object> config =
        Map.of("bootstrap.servers", Plan.BOOTSTRAP, "default.api.timeout.ms", 20_000, "request.timeout.ms", 10_000);
    try (Admin admin = Admin.create(config);
        RoundTrip roundTrip = new RoundTrip(admin)) {
      for (String codec : Plan.CODECS) {
        check(codec, () -> roundTrip.run(codec, Plan.recordsPerCodec()));
      }
      for (Map.Entry<String, Check> one : new AdminChecks(admin, roundTrip).all().entrySet()) {
        check(one.getKey(), one.getValue());
      }
      for (Map.Entry<String, Check> one : new ConfigChecks(admin, roundTrip).all().entrySet()) {
        check(one.getKey(), one.getValue());
      }
      for (Map.Entry<String, Check> one : new ErrorChecks(roundTrip).all().entrySet()) {
        check(one.getKey(), one.getValue());
      }
    }
    System.out.flush();
    Runtime.getRuntime().halt(failed ? 1 : 0);
  }

  private static void check(String label, Check check) {
    current = label;
    long start = System.nanoTime();
    try {
      int count = check.run();
      System.out.printf("ok %s %s %d %.2f%n", NAME, label, count, (System.nanoTime() - start) / 1e9);
    } catch (Throwable error) {
      Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
      if (label.startsWith("later/") && cause instanceof UnsupportedVersionException) {
        System.out.printf("skip %s %s: the cluster does not offer it yet%n", NAME, label);
        return;
      }
      failed = true;
      System.out.printf("FAIL %s %s: %s (%s)%n", NAME, label, Plan.shorten(cause), place(error));
    }
  }

  /** The line of ours where an error came from. */
  private static String place(Throwable error) {
    for (StackTraceElement element : error.getStackTrace()) {
      if (element.getClassName().startsWith("flotilla.") && !element.getClassName().endsWith("Plan")) {
        return element.getFileName() + ":" + element.getLineNumber();
      }
    }
    return "somewhere in the client";
  }
}
